"""A role that may read some columns, update one, and make no temporary tables: the whole run, and what it is told."""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager

import pytest
from psycopg import sql
from tests.tables import (
    DOCS,
    INLINE,
    MODEL,
    another,
    assert_every_vector_is_its_texts,
    make_docs,
    relation_of,
    rest,
    role,
    with_arrays,
)

from vecfill.backfill.checks import check_write
from vecfill.backfill.run import run
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database
from vecfill.postgres.introspect import inspect
from vecfill.postgres.selection import MISSING


@contextmanager
def filler(connect, database, columns="id, title, embedding, ctid"):
    """URI of the database for a role with SELECT on some columns and UPDATE on the embedding, and nothing else."""
    place = sql.Identifier(connect.execute("SELECT current_database()").fetchone()[0])
    connect.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(place))
    with role(connect, database, f"SELECT ({columns}), UPDATE (embedding)") as uri:
        yield uri


def test_a_whole_run(connect, database, caplog, monkeypatch):
    monkeypatch.setattr("vecfill.backfill.drain.PAUSE_S", 0.01)
    make_docs(connect, 3_000)
    before = rest(connect)
    with filler(connect, database) as uri, another(database) as other, caplog.at_level(logging.INFO, "vecfill"):
        other.execute("SELECT FROM docs WHERE id = 7 FOR UPDATE")
        first = run(DOCS, MODEL, database=uri, options=INLINE)
        other.rollback()
        second = run(DOCS, MODEL, database=uri, options=INLINE)
    assert (first.updated, first.locked, first.exit_code) == (2_999, 1, 5)
    assert (second.updated, second.exit_code) == (1, 0)
    told = [record.message for record in caplog.records if "temporary" in record.message]
    assert len(told) == 2
    assert told[0].endswith("may not create temporary tables: sending batches as arrays")
    assert_every_vector_is_its_texts(connect, rows=3_000)
    assert rest(connect) == before


def test_the_way_follows_the_privilege(connect, database):
    make_docs(connect, 1)
    assert not relation_of(database).access.arrays
    with filler(connect, database) as uri:
        assert relation_of(uri).access.arrays


@pytest.mark.parametrize("columns", ["id, title, embedding", "title, embedding, ctid", "id, embedding, ctid"])
def test_a_column_that_may_not_be_read_is_told(connect, database, columns):
    make_docs(connect, 1)
    says = "SELECT on the columns it reads, including ctid"
    with filler(connect, database, columns=columns) as uri, pytest.raises(ConfigError, match=says):
        run(DOCS, MODEL, database=uri, options=INLINE)


def test_a_key_that_no_array_can_hold_is_told(connect, database):
    connect.execute("CREATE TABLE docs (id int[] PRIMARY KEY, title text, embedding vector(8))")
    with closing(Database(database).connect()) as connection:
        relation = with_arrays(inspect(connection, DOCS), arrays=True)
        with pytest.raises(ConfigError, match=r"key column id of public\.docs has a type without an array type"):
            check_write(connection, relation, MISSING)
