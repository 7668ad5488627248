"""Few rows missing among many: found through a partial index, in few pages, and with the same account at the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import TypeVar

import psycopg
import pytest
from tests.costs import BUFFERS_A_ROW, BUFFERS_BEFORE_THE_FIRST_TEXT, BUFFERS_OF_A_SWEEP
from tests.needs import needs
from tests.tables import (
    DOCS,
    INLINE,
    MODEL,
    add_docs,
    assert_every_vector_is_its_texts,
    make_docs,
    ranges_of,
    read_all,
    relation_of,
    survey_of,
    wait_until,
)

import vecfill.backfill.drain
import vecfill.read.partial_index
import vecfill.read.survey
from vecfill.backfill.prepare import prepare
from vecfill.backfill.prepared import Prepared
from vecfill.backfill.run import run
from vecfill.config.target import Target
from vecfill.postgres.database import Database
from vecfill.postgres.session import Session
from vecfill.read.partial_index import suggested_index

PARTIAL = "CREATE INDEX docs_missing ON docs (id) WHERE embedding IS NULL"
T = TypeVar("T")


def make_filled(connect: psycopg.Connection, rows: int, missing: int, index: str = PARTIAL) -> None:
    """A table where ``missing`` rows, spread evenly, have no vector."""
    connect.execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, title text, note text NOT NULL, embedding vector(8))"
        " WITH (autovacuum_enabled = off);"  # it would count among the buffers
        "INSERT INTO docs SELECT n, 'title ' || n, 'note ' || n,"
        f" CASE WHEN n % {rows // missing} <> 0 THEN array_fill(0.5, ARRAY[8])::vector END"
        f" FROM generate_series(1, {rows}) n;" + index
    )
    connect.execute("VACUUM (ANALYZE) docs")


COUNTED = (
    "SELECT sum(coalesce(hits, 0) + coalesce(reads, 0) + coalesce(extends, 0))::int8 FROM pg_stat_io"
    " WHERE backend_type IN ('client backend', 'background worker')"
)
"""Every buffer that a backend touches, from its start-up to its end: catalogues, planning, tables and indexes."""

SESSIONS = "SELECT count(*) FROM pg_stat_get_activity(NULL) WHERE application_name = 'vecfill'"


def counted(connect: psycopg.Connection) -> int:
    """What the server has counted by now, with what this session did before; to ask again touches no buffer."""
    wait_until(lambda: connect.execute(SESSIONS).fetchone() == (0,))  # a backend hands in its counters when it ends
    connect.execute("SELECT pg_stat_force_next_flush()")
    return connect.execute(COUNTED).fetchone()[0]


def buffers(connect: psycopg.Connection, work: Callable[[], T]) -> tuple[int, T]:
    """Buffers that the sessions of a piece of work touch, hit or read, of whatever they are; and its result."""
    if connect.info.server_version < 160_000:
        needs("PostgreSQL 16: pg_stat_io")
    counted(connect), counted(connect)  # what this session has to look up first is not theirs
    wait_until(lambda: counted(connect) == counted(connect))  # another session may hand in its counters late
    before = counted(connect)
    result = work()
    return counted(connect) - before, result


def prepared(database: str, target: Target = DOCS) -> Prepared:
    """What a run does before it reads a text: it surveys, checks and samples."""
    with closing(Session.connect(Database.resolve(database))) as session:
        return prepare(session, target, MODEL, ANYWAY)


ANYWAY = replace(INLINE, allow_mixed=True)


class FirstTextError(Exception):
    """Where a run would read it."""


@pytest.mark.parametrize(
    ("rows", "missing"), [(40_000, 20), pytest.param(1_000_000, 50, marks=pytest.mark.soak)], ids=["40k", "1M"]
)
def test_few_missing_rows_cost_few_buffers(connect, database, monkeypatch, rows, missing):
    """All told: the backend's own start-up, the catalogue, the checks, the sample, and finding the rows."""
    make_filled(connect, rows, missing)

    def first_text(drain, engine, found):
        raise FirstTextError(found.coverage)

    def until_the_first_text():
        with pytest.raises(FirstTextError) as reached:
            run(DOCS, MODEL, database=database, options=ANYWAY)
        return reached.value.args[0]

    with monkeypatch.context() as patched:
        patched.setattr(vecfill.backfill.drain.Drain, "_sweep", first_text)
        found = [buffers(connect, until_the_first_text) for _ in range(3)]
    before, coverage = min(found, key=lambda one: one[0])  # a session of the server's own can only add
    assert (coverage.missing, coverage.estimated) == (missing, True)
    assert coverage.total == pytest.approx(rows, rel=0.05)
    assert 0 < before < BUFFERS_BEFORE_THE_FIRST_TEXT
    whole, result = buffers(connect, lambda: run(DOCS, MODEL, database=database, options=ANYWAY))
    assert (result.outcome, result.updated, result.remaining) == ("complete", missing, 0)
    assert result.after.total == result.before.total
    assert result.after.filled - result.before.filled == missing
    assert before < whole < before + BUFFERS_OF_A_SWEEP + BUFFERS_A_ROW * missing
    assert survey_of(database, relation_of(database)).coverage.missing == 0


def test_rows_that_were_just_loaded_are_counted_on_a_sample(connect, database):
    """Without statistics the planner takes a vector for 32 bytes, and says five times as many rows here."""
    connect.execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, title text, embedding vector(200)) WITH (autovacuum_enabled = off);"
        "CREATE INDEX ON docs (id) WHERE embedding IS NULL;"
        "INSERT INTO docs SELECT n, 'title ' || n, CASE WHEN n % 500 > 0 THEN array_fill(0.5, ARRAY[200])::vector END"
        " FROM generate_series(1, 5000) n"
    )
    for where, rows in ((None, 5_000), ("id > 2000", 3_000)):
        found = survey_of(database, relation_of(database, replace(DOCS, where=where)))
        assert (found.coverage.estimated, found.coverage.missing) == (True, rows // 500)
        assert found.coverage.total == pytest.approx(rows, rel=0.3)


def test_zeros_are_found_beside_an_index_that_does_not_list_them(connect, database):
    make_filled(connect, 40_000, 20)
    connect.execute("UPDATE docs SET embedding = array_fill(0, ARRAY[8])::real[] WHERE id % 4000 = 1")
    result = run(replace(DOCS, zero_is_missing=True), MODEL, database=database, options=ANYWAY)
    assert (result.outcome, result.updated, result.before.estimated) == ("complete", 30, False)


def test_without_an_index_every_page_is_counted(connect, database):
    """What the measurement says of a scan: it would notice one."""
    make_filled(connect, 40_000, 20, index="")
    pages = connect.execute("SELECT pg_relation_size('docs') / 8192").fetchone()[0]
    found, result = buffers(connect, lambda: prepared(database))
    assert found > 2 * pages
    assert (result.before.total, result.before.estimated) == (40_000, False)


@pytest.mark.parametrize(
    "index",
    [
        PARTIAL,
        "CREATE INDEX ON docs (title) WHERE (embedding IS NULL)",
        "CREATE INDEX ON docs (note, id) WHERE embedding IS NULL AND id > 0",  # implied by --where below
        "CREATE INDEX ON docs (id) INCLUDE (note) WHERE embedding IS NULL OR note = ''",
    ],
)
def test_any_partial_index_that_holds_the_missing_rows_serves(connect, database, index):
    make_filled(connect, 40_000, 20, index=index)
    connect.execute("UPDATE docs SET title = ' ' WHERE id = 2000")
    relation = relation_of(database, replace(DOCS, where="id > 0"))
    found = survey_of(database, relation)
    assert found.coverage.estimated
    assert (found.coverage.missing, found.coverage.empty) == (19, 1)
    assert all(bucket.listed for bucket in found.buckets)
    block = read_all(database, relation, ranges_of(database, relation))
    expected = connect.execute("SELECT title FROM docs WHERE embedding IS NULL AND title <> ' '").fetchall()
    assert sorted(block["text"].to_pylist()) == sorted(title for (title,) in expected)


@pytest.mark.parametrize(
    "index",
    [
        "CREATE INDEX ON docs (id) WHERE embedding IS NULL AND note = 'x'",
        "CREATE INDEX ON docs (id) WHERE embedding IS NOT NULL",
        "CREATE INDEX ON docs (id) WHERE id > 0",
        "CREATE INDEX ON docs USING hash (id) WHERE embedding IS NULL",
    ],
)
def test_an_index_that_may_lack_a_missing_row_is_not_used(connect, database, index):
    make_filled(connect, 40_000, 20, index=index)
    found = survey_of(database, relation_of(database, replace(DOCS, where="id > 0")))
    assert (found.coverage.missing, found.coverage.total, found.coverage.estimated) == (20, 40_000, False)


def test_many_missing_rows_are_scanned_for_although_there_is_an_index(connect, database):
    make_filled(connect, 40_000, 20_000)
    found = survey_of(database, relation_of(database))
    assert (found.coverage.missing, found.coverage.estimated) == (20_000, False)


def test_each_partition_by_its_own_means(connect, database):
    connect.execute(
        "CREATE TABLE docs (extra int, id bigint PRIMARY KEY, title text, embedding vector(8))"
        " PARTITION BY RANGE (id);"
        "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (20001);"
        "CREATE TABLE docs_2 (id bigint NOT NULL, title text, embedding vector(8), extra int);"
        "ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES FROM (20001) TO (50000);"
        "INSERT INTO docs SELECT 0, n, 'title ' || n, CASE WHEN n % 1000 > 0 THEN array_fill(0.5, ARRAY[8])::vector END"
        " FROM generate_series(1, 40000) n;"
        "CREATE INDEX ON docs_2 (id) WHERE embedding IS NULL;"
        "ANALYZE docs"
    )
    relation = relation_of(database)
    found = survey_of(database, relation)
    assert {bucket.leaf for bucket in found.buckets if bucket.listed} == {1}
    assert (found.coverage.missing, found.coverage.estimated, list(found.estimates)) == (40, True, [1])
    assert read_all(database, relation, ranges_of(database, relation)).num_rows == 40
    assert run(DOCS, MODEL, database=database, options=ANYWAY).updated == 40


def test_rows_that_change_after_they_were_listed_are_swept_again(connect, database):
    make_filled(connect, 40_000, 20)
    changed = []

    def change(event) -> None:
        if event.done and not changed:
            changed.append(connect.execute("UPDATE docs SET title = 'other' WHERE embedding IS NULL").rowcount)
            add_docs(connect, 50_001, 50_005)

    result = run(DOCS, MODEL, database=database, options=replace(ANYWAY, limit=None), progress=change)
    assert (result.outcome, result.remaining) == ("complete", 0)
    connect.execute("DELETE FROM docs WHERE id % 2000 <> 0 AND id < 50000")
    assert_every_vector_is_its_texts(connect, rows=25)


def test_rows_that_moved_since_they_were_listed_are_found_by_the_next_sweep(connect, database, monkeypatch):
    make_filled(connect, 40_000, 20)
    sweep = vecfill.backfill.drain.Drain._sweep

    def moving(drain, engine, found):
        if not drain.tally.sweeps:
            connect.execute("UPDATE docs SET note = note || repeat('x', 4000) WHERE embedding IS NULL")
        sweep(drain, engine, found)

    monkeypatch.setattr(vecfill.backfill.drain.Drain, "_sweep", moving)
    result = run(DOCS, MODEL, database=database, options=ANYWAY)
    assert (result.outcome, result.updated, result.remaining, result.sweeps) == ("complete", 20, 0, 2)


# -- the index that would help


def test_the_index_that_would_help_is_printed_and_works(connect, database, monkeypatch, caplog):
    monkeypatch.setattr(vecfill.read.partial_index, "BIG_PAGES", 300)
    connect.execute('CREATE SCHEMA "Odd ""S"')
    make_filled(connect, 40_000, 20, index="")
    connect.execute('ALTER TABLE docs RENAME COLUMN embedding TO "Em bed"')
    connect.execute('ALTER TABLE docs RENAME COLUMN id TO "order"')
    connect.execute('ALTER TABLE docs RENAME TO "user"; ALTER TABLE "user" SET SCHEMA "Odd ""S"')
    target = replace(DOCS, table='"Odd ""S"."user"', column="Em bed")
    with caplog.at_level("INFO", "vecfill"):
        prepared(database, target)
    ddl = 'CREATE INDEX CONCURRENTLY ON "Odd ""S"."user" ("order") WHERE "Em bed" IS NULL'
    assert [record.getMessage().partition("list them: ")[2] for record in caplog.records if ddl in record.message] == [
        ddl
    ]
    connect.execute(ddl)
    caplog.clear()
    with caplog.at_level("INFO", "vecfill"):
        result = run(target, MODEL, database=database, options=ANYWAY)
    assert result.before.estimated
    assert "CREATE INDEX" not in caplog.text


def test_no_index_is_advised_where_it_would_not_help(connect, database, monkeypatch):
    make_docs(connect, 40_000)
    relation = relation_of(database)
    assert suggested_index(relation, 20) is None  # a small table
    monkeypatch.setattr(vecfill.read.partial_index, "BIG_PAGES", 100)
    assert suggested_index(relation, 20) is not None
    assert suggested_index(relation, 40_000) is None


# -- a limit, and rows that fail in front


@pytest.mark.parametrize("index", ["", PARTIAL])
def test_a_limited_run_goes_on_behind_rows_that_fail(connect, database, index):
    make_filled(connect, 40_000, 40, index=index)
    connect.execute("ALTER TABLE docs ADD CHECK (id > 25000 OR embedding IS NULL) NOT VALID")
    failing = connect.execute("SELECT count(*) FROM docs WHERE embedding IS NULL AND id <= 25000").fetchone()[0]
    result = run(DOCS, MODEL, database=database, options=replace(ANYWAY, limit=10))
    assert failing == 25
    assert (result.updated, result.failed, result.exit_code) == (10, 25, 3)
    assert result.embedded == 10
    assert len(result.quarantine) == 25
    assert result.sweeps == 4
