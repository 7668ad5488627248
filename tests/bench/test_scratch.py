"""The scratch schema: made, filled, refilled, and gone whatever happens."""

from __future__ import annotations

from contextlib import suppress

import psycopg
import pytest
from psycopg import sql

from vecfill.bench.scratch import PREFIX, scratch
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database

TEXTS = ("a", "b\tc", "d\\e", "Łódź")


def remains(connect: psycopg.Connection) -> list[tuple]:
    return connect.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", [PREFIX]).fetchall()


def test_a_table_holds_the_texts_and_a_refill_makes_it_anew(connect, database):
    with scratch(Database(database)) as schema:
        table = schema.table("texts", TEXTS, 3)
        assert (table.relation.table.vector.kind, table.relation.table.vector.dim, table.rows) == (
            "vector",
            3,
            len(TEXTS),
        )
        rows = sql.SQL("SELECT text, embedding FROM {} ORDER BY id").format(table.relation.table.name)
        assert connect.execute(rows).fetchall() == [(text, None) for text in TEXTS]
        connect.execute(sql.SQL("UPDATE {} SET embedding = '[1,2,3]'").format(table.relation.table.name))
        table.refill()
        assert connect.execute(rows).fetchall() == [(text, None) for text in TEXTS]
        assert len(remains(connect)) == 1
    assert remains(connect) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_remains_after_an_error_or_a_ctrl_c(connect, database, error):
    with suppress(error), scratch(Database(database)) as schema:
        schema.table("texts", TEXTS, 3)
        raise error
    assert remains(connect) == []


def test_a_dimension_that_pgvector_does_not_have_is_refused(connect, database):
    with (
        pytest.raises(ConfigError, match="no scratch table of 20000 dimensions"),
        scratch(Database(database)) as schema,
    ):
        schema.table("texts", TEXTS, 20_000)
    assert remains(connect) == []


def test_a_database_without_pgvector_is_told(connect, database):
    connect.execute("DROP EXTENSION vector")
    with pytest.raises(ConfigError, match="has no pgvector"), scratch(Database(database)):
        pass


def test_pgvector_may_live_in_any_schema(connect, database):
    connect.execute('CREATE SCHEMA "Odd one"; ALTER EXTENSION vector SET SCHEMA "Odd one"')
    with scratch(Database(database)) as schema:
        assert schema.table("texts", TEXTS, 3).relation.table.vector.dim == 3


def test_a_role_that_may_not_make_a_schema_is_told(connect, database):
    connect.execute("CREATE ROLE vecfill_bench_reader LOGIN")
    try:
        place = Database(psycopg.conninfo.make_conninfo(database, user="vecfill_bench_reader"))
        with pytest.raises(ConfigError, match="GRANT CREATE ON DATABASE"), scratch(place):
            pass
    finally:
        connect.execute("DROP ROLE vecfill_bench_reader")
