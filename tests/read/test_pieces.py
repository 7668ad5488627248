"""Reading in pieces: the same rows as at once, whatever time limit asks for it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql
from tests.needs import needs
from tests.tables import (
    DOCS,
    INLINE,
    MODEL,
    add_docs,
    assert_every_vector_is_its_texts,
    cancel_sleeping,
    make_docs,
    meanwhile,
    ranges_of,
    reader_of,
    relation_of,
    survey_of,
)

import vecfill.read.partial_index
import vecfill.read.survey
from vecfill.backfill.run import run
from vecfill.errors import DatabaseError
from vecfill.postgres.database import Database
from vecfill.read.pieces import Pieces
from vecfill.read.survey import survey
from vecfill.read.units import RowList

SLOW = replace(DOCS, where="slow(title) IS NOT NULL")


def make_slow_docs(connect: psycopg.Connection, seconds: float, *, rows: int = 70, **timeouts: str) -> None:
    """Rows, ten a page, each of which takes its time to read; and timeouts of the database."""
    make_docs(connect)
    connect.execute("ALTER TABLE docs ALTER note SET STORAGE PLAIN, ALTER note SET DEFAULT repeat('x', 700)")
    connect.execute("INSERT INTO docs (id, title) SELECT n, 'title ' || n FROM generate_series(1, %s::int) n", [rows])
    connect.execute(
        "CREATE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN $1; END $$"
    )
    name = sql.Identifier(connect.execute("SELECT current_database()").fetchone()[0])
    for timeout, value in timeouts.items():
        connect.execute(
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.Identifier(timeout), sql.Literal(value))
        )


def in_pieces(most: int) -> Pieces:
    pieces = Pieces()
    pieces.most = most
    return pieces


@pytest.mark.parametrize("most", [1, 3, 10])
def test_the_pieces_give_what_the_whole_gives(connect, database, most):
    make_docs(connect, 3_000)
    relation = relation_of(database)
    connect.execute("UPDATE docs SET embedding = array_fill(0.5, ARRAY[8])::vector WHERE id % 3 = 0")
    add_docs(connect, 3_001, 6_000)  # on pages that the catalogue did not have
    found = survey_of(database, relation)
    with closing(Database(database).connect()) as connection:
        again = survey(connection, relation, pieces=in_pieces(most))
    assert again.coverage == found.coverage
    assert {*again.buckets} == {*found.buckets}
    assert len(again.buckets) == len(found.buckets)
    listed = RowList(leaf=0, tids=tuple((0, number) for number in range(1, 60)), rows=40)
    with closing(reader_of(Database(database), relation)) as read:
        for unit in (*ranges_of(database, relation), *ranges_of(database, relation, limit=700), listed):
            read._pieces = Pieces()
            whole = read(unit).drop("read_s")
            read._pieces = in_pieces(most)
            assert read(unit).drop("read_s") == whole


@pytest.mark.slow
@pytest.mark.parametrize("timeout", ["statement_timeout", "transaction_timeout"])
def test_a_run_whose_statements_take_too_long_reads_in_pieces(connect, database, timeout):
    if timeout == "transaction_timeout" and connect.info.server_version < 170_000:
        needs("PostgreSQL 17 or newer, which has transaction_timeout")
    make_slow_docs(connect, 0.008, **{timeout: "500ms"})
    result = run(SLOW, MODEL, database=database, options=INLINE)
    assert (result.outcome, result.updated, result.after.total) == ("complete", 70, 70)
    assert_every_vector_is_its_texts(connect, rows=70)


@pytest.mark.slow
@pytest.mark.parametrize("timeout", ["statement_timeout", "transaction_timeout"])
def test_a_partial_index_that_takes_too_long_gives_way_to_pieces(connect, database, monkeypatch, timeout):
    if timeout == "transaction_timeout" and connect.info.server_version < 170_000:
        needs("PostgreSQL 17 or newer, which has transaction_timeout")
    monkeypatch.setattr(vecfill.read.survey, "SMALL_PAGES", 0)
    monkeypatch.setattr(vecfill.read.partial_index, "max_listed_rows", lambda leaf: 1_000)
    make_slow_docs(connect, 0.008, **{timeout: "500ms"})
    connect.execute("CREATE INDEX ON docs (id) WHERE embedding IS NULL")
    result = run(SLOW, MODEL, database=database, options=INLINE)
    assert (result.outcome, result.updated, result.remaining) == ("complete", 70, 0)


@pytest.mark.slow
def test_a_page_that_takes_too_long_is_read_row_by_row(connect, database):
    make_slow_docs(connect, 0.05, rows=10, statement_timeout="300ms")
    result = run(SLOW, MODEL, database=database, options=INLINE)
    assert (result.outcome, result.updated, result.exit_code) == ("complete", 10, 0)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["where", "text"])
def test_a_row_that_takes_too_long_is_set_aside_by_key(connect, database, part):
    make_slow_docs(connect, 0, statement_timeout="400ms")
    connect.execute(
        "CREATE OR REPLACE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN IF $1 = 'title 47' THEN PERFORM pg_sleep(30); END IF; RETURN $1; END $$"
    )
    target = SLOW if part == "where" else replace(DOCS, text=None, text_sql="slow(title)")
    result = run(target, MODEL, database=database, options=INLINE)
    assert (result.outcome, result.exit_code, result.updated, result.failed) == ("quarantined", 3, 69, 1)
    (row,) = result.quarantine
    assert (row.key, row.error_class) == ("47", "timeout")
    assert row.error.startswith("cannot be read: takes longer to read than statement_timeout allows: canceling")


@pytest.mark.slow
@pytest.mark.parametrize("timeout", ["statement_timeout", "transaction_timeout"])
def test_rows_that_all_take_too_long_are_an_error_that_names_the_setting(connect, database, timeout):
    if timeout == "transaction_timeout" and connect.info.server_version < 170_000:
        needs("PostgreSQL 17 or newer, which has transaction_timeout")
    make_slow_docs(connect, 30, **{timeout: "300ms"})
    what = "every row of public.docs that was tried" if timeout == "statement_timeout" else "a page of public.docs"
    says = f"{what} takes longer to read than {timeout} allows: .* raise {timeout} of role"
    with pytest.raises(DatabaseError, match=says):
        run(SLOW, MODEL, database=database, options=INLINE)


def test_a_cancel_by_somebody_else_is_no_timeout(connect, database):
    make_slow_docs(connect, 0.1, statement_timeout="5min")

    with (
        meanwhile(lambda _: cancel_sleeping(connect)),
        pytest.raises(DatabaseError, match="canceling statement due to user request"),
    ):
        run(SLOW, MODEL, database=database, options=INLINE)
