"""The survey and the reader against real tables: every eligible row once, and nothing left open behind them."""

from __future__ import annotations

import hashlib
import pickle
from contextlib import closing

import psycopg
import pytest
from psycopg import sql
from tests.tables import DOCS, add_docs, make_docs, ranges_of, read_all, reader_of, relation_of, survey_of, wait_until

from vecfill.blocks import text_schema
from vecfill.config.target import Target
from vecfill.errors import DatabaseError
from vecfill.postgres import read_sql
from vecfill.postgres.database import Database
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import MISSING
from vecfill.postgres.transaction import transaction
from vecfill.read.units import MAX_BLOCK_ROWS, PageRange

ALL = PageRange(leaf=0, first_page=0, end_page=None, rows=0)
MIXED = """
INSERT INTO docs (id, title, note, embedding)
SELECT n, CASE n % 10 WHEN 0 THEN NULL WHEN 1 THEN E' \\t\\u3000' ELSE 'title ' || n END,
  repeat('x', CASE WHEN n % 97 = 0 THEN 3000 WHEN n % 5 = 0 THEN 400 ELSE 1 END),
  CASE WHEN n % 4 = 2 THEN array_fill(0.5, ARRAY[8])::vector END
FROM generate_series(1, %s) n
"""
"""Rows of wildly different sizes; a tenth NULL, a tenth blank, some filled."""


def make_mixed(connect: psycopg.Connection, rows: int = 6_000, *, partitioned: bool = False) -> None:
    """A table with gaps, dead rows and rows that moved, as it lies after some use."""
    connect.execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, title text, note text, embedding vector(8))"
        + (" PARTITION BY RANGE (id)" if partitioned else "")
    )
    if partitioned:
        connect.execute("CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (1000)")
        connect.execute("CREATE TABLE docs_2 PARTITION OF docs FOR VALUES FROM (1000) TO (1001)")
        connect.execute("CREATE TABLE docs_3 PARTITION OF docs FOR VALUES FROM (5000) TO (5001)")
        connect.execute("CREATE TABLE docs_rest PARTITION OF docs DEFAULT")
    connect.execute(MIXED.replace("%s", str(rows)))
    connect.execute("DELETE FROM docs WHERE id BETWEEN 2000 AND 2900 OR id % 7 = 3")
    connect.execute("UPDATE docs SET note = note || 'moved' WHERE id % 11 = 5")


ELIGIBLE = "embedding IS NULL AND id % 10 > 1"


@pytest.mark.parametrize("partitioned", [False, True])
def test_all_ranges_together_give_each_eligible_row_once(connect, database, partitioned):
    make_mixed(connect, partitioned=partitioned)
    relation = relation_of(database)
    ranges = ranges_of(database, relation)
    assert len(ranges) >= 5
    block = read_all(database, relation, ranges)
    expected = connect.execute(f"SELECT int8send(id), title FROM docs WHERE {ELIGIBLE}", binary=True).fetchall()
    assert sorted(zip(block["key0"].to_pylist(), block["text"].to_pylist(), strict=True)) == sorted(expected)
    assert block.num_rows == sum(one.rows for one in ranges)


@pytest.mark.parametrize("partitioned", [False, True])
def test_the_coverage_adds_up(connect, database, partitioned):
    make_mixed(connect, partitioned=partitioned)
    found = survey_of(database, relation_of(database)).coverage
    assert (found.total, found.filled, found.missing) == connect.execute(
        f"SELECT count(*), count(embedding), count(*) FILTER (WHERE {ELIGIBLE}) FROM docs"
    ).fetchone()
    assert found.total == found.filled + found.missing + found.empty
    assert found.percent == pytest.approx(100 * found.filled / found.total)


def test_an_empty_table_is_fully_covered(connect, database):
    make_docs(connect)
    found = survey_of(database, relation_of(database))
    assert (found.coverage.total, found.coverage.percent, found.buckets) == (0, 100.0, ())


def test_where_counts_and_reads_its_rows_only(connect, database):
    make_docs(connect, 100)
    connect.execute("UPDATE docs SET embedding = array_fill(1, ARRAY[8])::vector WHERE id <= 10")
    relation = relation_of(database, Target(table="docs", text="{title}", where="id % 2 = 0 -- odd ones stay"))
    coverage = survey_of(database, relation).coverage
    assert (coverage.total, coverage.filled, coverage.missing) == (50, 5, 45)
    assert read_all(database, relation, ranges_of(database, relation)).num_rows == 45


def test_a_limit_reads_that_many(connect, database):
    make_mixed(connect)
    relation = relation_of(database)
    for limit in (1, 700, 2_500):
        block = read_all(database, relation, ranges_of(database, relation, limit))
        assert block.num_rows == limit
        assert len(set(block["key0"].to_pylist())) == limit


def test_hashes_are_of_the_text(connect, database):
    make_docs(connect)
    texts = ["plain", "ünï çødé 🦀", "line\nfeed\ttab", "x" * 100_000, "  spaced  "]
    for number, text in enumerate(texts):
        connect.execute("INSERT INTO docs VALUES (%s, %s, '')", [number, text])
    block = read_all(database, relation_of(database), [ALL])
    assert dict(zip(block["text"].to_pylist(), block["text_hash"].to_pylist(), strict=True)) == {
        text: hashlib.sha256(text.encode()).digest()[:16] for text in texts
    }


def plan_of(database: str, relation: Relation, first: int | None, end: int | None) -> str:
    bounds = PageRange(leaf=0, first_page=first or 0, end_page=end, rows=0).bounds()
    query = read_sql.read(MISSING, relation, relation.table.leaves[0], tuple(bounds))
    with closing(Database(database).connect()) as connection, transaction(connection) as cursor:
        rows = cursor.execute(sql.SQL("EXPLAIN {}").format(query), [None, *bounds.values()]).fetchall()
    return "\n".join(line for (line,) in rows)


def test_a_range_is_a_tid_range_scan(connect, database):
    make_mixed(connect)
    connect.execute("ANALYZE docs")
    relation = relation_of(database)
    for first, end in ((20, 40), (None, 40), (20, None)):
        assert "Tid Range Scan on docs" in plan_of(database, relation, first, end)


def test_an_empty_range_is_one_empty_block(connect, database):
    make_docs(connect, 10)
    with closing(reader_of(Database(database), relation_of(database))) as read:
        for pages in (
            PageRange(leaf=0, first_page=500, end_page=600, rows=9),
            PageRange(leaf=0, first_page=500, end_page=None, rows=9),
            PageRange(leaf=0, first_page=0, end_page=1, rows=9, limit=0),
        ):
            block = read(pages)
            assert block.num_rows == 0
            assert block.schema == text_schema(1) == read.nothing().schema


def test_a_composite_key_comes_in_its_columns(connect, database):
    connect.execute(
        "CREATE TABLE docs (a text, b int, title text, embedding vector(8), PRIMARY KEY (b, a)); "
        "INSERT INTO docs VALUES ('', 1, 'one'), ('ü', -2, 'two')"
    )
    block = read_all(database, relation_of(database), [ALL]).sort_by("text")
    assert block["key0"].to_pylist() == [b"\0\0\0\1", b"\xff\xff\xff\xfe"]
    assert block["key1"].to_pylist() == [b"", "ü".encode()]


def ours(connect: psycopg.Connection) -> list[tuple]:
    """Our backends; one whose line was closed ends a moment later."""
    return connect.execute(
        "SELECT state, xact_start, backend_xmin FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'vecfill'"
    ).fetchall()


def test_no_transaction_is_open_after_a_read(connect, database):
    make_docs(connect, 1_000)
    with closing(reader_of(Database(database), relation_of(database))) as read:
        assert read(ALL).num_rows == 1_000
        wait_until(lambda: ours(connect) == [("idle", None, None)])
        connect.execute("ALTER TABLE docs RENAME TO elsewhere")
        with pytest.raises(DatabaseError, match=r"public\.docs cannot be read"):
            read(ALL)
        wait_until(lambda: ours(connect) == [("idle", None, None)])


def test_the_reader_comes_back_after_its_backend_was_ended(connect, database):
    make_docs(connect, 10)
    with closing(reader_of(Database(database), relation_of(database))) as read:
        read(ALL)
        connect.execute(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity"
            " WHERE application_name = 'vecfill' AND datname = current_database()"
        )
        assert read(ALL).num_rows == 10


def test_the_reader_travels_by_pickle_without_its_connection(connect, database):
    make_docs(connect, 10)
    with closing(reader_of(Database(database), relation_of(database))) as read:
        read(ALL)
        with closing(pickle.loads(pickle.dumps(read))) as copy:
            assert copy(ALL).drop(["read_s"]) == read(ALL).drop(["read_s"])


TYPED = "{at} {on_day} {took} {ratio} {price} {blob}"
LOOKS = (
    "TimeZone = 'Asia/Kathmandu'",
    "DateStyle = 'SQL, DMY'",
    "IntervalStyle = 'sql_standard'",
    "extra_float_digits = -5",
    "bytea_output = 'escape'",
)


def test_a_text_looks_the_same_whoever_reads_it(connect, database):
    """Of all settings that change what a value looks like, none of the role's counts."""
    connect.execute(
        "CREATE TABLE docs (id int PRIMARY KEY, at timestamptz, on_day date, took interval, ratio float8, price money,"
        " blob bytea, embedding vector(8))"
    )
    connect.execute(
        "INSERT INTO docs VALUES (1, '2020-02-29 12:00+00', '2020-02-03', '1 day 2:03:04', 0.1::float8 + 0.2, '12.5',"
        r" '\x00ff')"
    )
    relation = relation_of(database, Target(table="docs", text=TYPED))
    plain = read_all(database, relation, [ALL])["text"].to_pylist()
    name = sql.Identifier(connect.execute("SELECT current_database()").fetchone()[0])
    for setting in LOOKS:
        connect.execute(sql.SQL("ALTER DATABASE {} SET ").format(name) + sql.SQL(setting))
    assert read_all(database, relation, [ALL])["text"].to_pylist() == plain
    assert plain == [r"2020-02-29 12:00:00+00 2020-02-03 1 day 02:03:04 0.30000000000000004 $12.50 \x00ff"]


def test_rows_that_arrive_during_the_read_are_in_the_open_range(connect, database):
    make_docs(connect, 3_000)
    relation = relation_of(database, DOCS)
    ranges = ranges_of(database, relation)
    add_docs(connect, 3_001, 3_500)
    assert read_all(database, relation, ranges).num_rows == 3_500


def test_a_mass_insert_during_the_read_does_not_come_as_one_block(connect, database):
    make_docs(connect, 100)
    relation = relation_of(database, DOCS)
    (open_range,) = ranges_of(database, relation)
    add_docs(connect, 101, 20_000)
    assert read_all(database, relation, [open_range]).num_rows == 100 + MAX_BLOCK_ROWS
