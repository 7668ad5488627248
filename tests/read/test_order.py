"""``--order-by``: rows are taken in the user's order, by blocks, whatever the table is like."""

from __future__ import annotations

import logging
from dataclasses import replace

import psycopg
import pytest
from tests.ledger.test_models import OTHER
from tests.ledger.tracked import assert_current, fill, make_partitioned_docs, tracked_docs
from tests.tables import (
    DOCS,
    INLINE,
    MODEL,
    assert_every_vector_is_its_texts,
    make_docs,
    meanwhile,
    relation_of,
    role,
    survey_of,
    wait_until,
)

from vecfill import run, track
from vecfill.backfill.order import keys as order_keys
from vecfill.errors import ConfigError
from vecfill.job import Stop
from vecfill.postgres import order_sql
from vecfill.postgres.database import Database
from vecfill.postgres.selection import MISSING
from vecfill.read.ordered_rows import OrderedList, OrderedRows
from vecfill.read.units import MAX_BLOCK_ROWS


def filled(connect: psycopg.Connection) -> list[int]:
    query = "SELECT id FROM docs WHERE embedding IS NOT NULL ORDER BY id"
    return [number for (number,) in connect.execute(query).fetchall()]


def listed(database: str, order: str, limit: int | None = None, **wish) -> list[OrderedRows]:
    relation = relation_of(database, replace(DOCS, **wish))
    rows = OrderedList(relation=relation, selection=MISSING, order=order_keys(order))
    with Database(database).connect() as connection:
        buckets = survey_of(database, relation).buckets
        return rows.blocks(connection, buckets, limit=limit, most_rows=MAX_BLOCK_ROWS)


def test_a_limit_takes_the_first_rows_of_the_order(database, connect):
    make_docs(connect, 200)
    connect.execute("UPDATE docs SET title = '' WHERE id IN (200, 198)")
    assert fill(database, order_by="id DESC", limit=3).updated == 3
    assert filled(connect) == [196, 197, 199]
    assert fill(database, order_by='id % 2, note COLLATE "C" DESC NULLS LAST', limit=2).updated == 2
    assert filled(connect) == [96, 98, 196, 197, 199]
    assert fill(database, replace(DOCS, where="id < 50"), order_by="(SELECT -id)", limit=1).updated == 1
    assert filled(connect)[0] == 49
    assert fill(database, order_by="id -- newest").remaining == 0
    assert_every_vector_is_its_texts(connect, rows=198)


def test_without_a_limit_the_blocks_are_in_order(database, connect):
    make_docs(connect, 2_000)
    connect.execute("UPDATE docs SET seen = (id * 7919) % 2000")
    assert fill(database, order_by="seen DESC").updated == 2_000
    written = connect.execute("SELECT seen FROM docs ORDER BY xmin::text::bigint, seen DESC").fetchall()
    places = [1_999 - seen for (seen,) in written]
    assert [place // 512 for place in places] == sorted(place // 512 for place in places)


def test_one_order_over_all_partitions(database, connect):
    make_partitioned_docs(connect, 40, part="CASE WHEN n > 20 THEN 1 ELSE 2 END")
    connect.execute("UPDATE docs SET embedding = '[1,1,1,1,1,1,1,1]' WHERE id = 39")
    fill(database, order_by="id % 10 DESC, id DESC", limit=5, allow_mixed=True)
    assert filled(connect) == [9, 19, 28, 29, 38, 39]


def test_where_policies_apply_the_tree_of_partitions_is_read_as_one_and_places_are_not_mixed_up(database, connect):
    make_partitioned_docs(connect, 40)
    connect.execute(
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON docs USING (id <= 30);"
        "UPDATE docs SET title = '' WHERE id = 29"
    )
    with role(connect, database) as theirs:
        assert fill(theirs, order_by="id DESC", limit=5).updated == 5
        assert filled(connect) == [25, 26, 27, 28, 30]
        broken = replace(DOCS, text=None, text_sql="title || repeat('', 1 / (id - 22))")
        result = fill(theirs, broken, order_by="id DESC", limit=3)
        assert [one.key for one in result.quarantine] == ["(22,1)"]
        assert filled(connect) == [21, 23, 24, 25, 26, 27, 28, 30]
        assert fill(theirs, order_by="id").remaining == 0
    assert_every_vector_is_its_texts(connect, "title")


def test_every_row_under_another_model_in_order(database, connect):
    tracked_docs(connect, database, 20)
    assert fill(database, model=OTHER, select="all", order_by="id DESC", limit=3).updated == 3
    found = connect.execute("SELECT key0 FROM vecfill.vector_1 WHERE model = 2 ORDER BY 1").fetchall()
    assert [key for (key,) in found] == [18, 19, 20]


def test_a_role_with_rights_on_columns_may_order_by_them(database, connect):
    make_docs(connect, 5)
    rights = "SELECT (id, title, embedding, ctid), UPDATE (embedding)"
    with role(connect, database, rights) as theirs:
        assert fill(theirs, order_by="id DESC", limit=2).updated == 2
        with pytest.raises(ConfigError, match=r"--order-by does not work .*permission denied"):
            fill(theirs, order_by="note")
    assert filled(connect) == [4, 5]


def test_an_order_of_one_partition_reads_only_that(database, connect):
    make_partitioned_docs(connect, 20)
    connect.execute("DROP TABLE docs_2; CREATE TABLE docs_2 PARTITION OF docs FOR VALUES IN (2)")
    relation = relation_of(database)
    (block,) = listed(database, "id DESC")
    assert {relation.table.leaves[part.leaf].name.as_string() for part in block.parts} == {'"public"."docs_1"'}
    assert block.rows == 10


def test_the_queue_of_a_tracked_target_is_taken_in_order(database, connect):
    make_docs(connect, 30)
    track(DOCS, database=database)
    assert fill(database, order_by="id DESC", limit=10).updated == 10
    assert filled(connect) == [*range(21, 31)]
    fill(database)
    connect.execute("UPDATE docs SET title = 'new ' || id WHERE id <= 10")
    changed = "SELECT count(*) FROM vecfill.change_1"
    assert fill(database, order_by="id DESC", limit=4).updated == 4
    connect.execute("UPDATE docs SET note = 'x'")
    left = "SELECT key0 FROM vecfill.change_1 ORDER BY 1"
    assert [key for (key,) in connect.execute(left).fetchall()] == [1, 2, 3, 4, 5, 6]
    assert fill(database, order_by="id").updated == 6
    assert connect.execute(changed).fetchone() == (0,)
    assert fill(database, order_by="id DESC", select="all", allow_mixed=True).updated == 0
    assert_current(connect)


def test_a_partial_index_and_an_order(database, connect):
    make_docs(connect, 30_000)
    connect.execute("CREATE INDEX ON docs (id) WHERE embedding IS NULL")
    connect.execute("UPDATE docs SET embedding = array_fill(1, '{8}')::vector WHERE id % 1000 > 0; ANALYZE docs")
    assert fill(database, order_by="id DESC", limit=2, allow_mixed=True).updated == 2
    missing = connect.execute("SELECT max(id) FROM docs WHERE embedding IS NULL").fetchone()
    assert missing == (28_000,)


def test_an_index_gives_the_order_at_the_cost_of_the_limit(database, connect, caplog):
    connect.execute(
        "CREATE TABLE docs (id int PRIMARY KEY, title text, created int, embedding vector(8));"
        "INSERT INTO docs SELECT n, repeat('title ', 20) || n, n FROM generate_series(1, 20000) n;"
        "CREATE INDEX ON docs (created); ANALYZE docs"
    )
    relation = relation_of(database)
    query = order_sql.explain(MISSING, relation, order_keys("created DESC"), 100).as_string()
    plan = connect.execute(query.replace("FORMAT JSON", "ANALYZE, BUFFERS, FORMAT JSON")).fetchone()[0][0]["Plan"]
    buffers = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert buffers < 20 < relation.table.leaves[0].pages
    with caplog.at_level(logging.INFO, "vecfill"):
        assert fill(database, order_by="created DESC", limit=100).updated == 100
        assert "finds and sorts" not in caplog.text
        assert fill(database, order_by="created % 7", limit=100).updated == 100
        assert "--order-by: the server finds and sorts all 19,900 eligible rows before" in caplog.text


def test_a_row_on_which_the_text_fails_is_set_aside_and_the_others_keep_the_order(database, connect):
    make_docs(connect, 20)
    connect.execute("UPDATE docs SET seen = 1 WHERE id <> 18")
    broken = replace(DOCS, text=None, text_sql="title || (1 / seen)")
    result = fill(database, broken, order_by="id DESC", limit=4)
    assert (result.updated, [one.key for one in result.quarantine]) == (4, ["18"])
    assert filled(connect) == [16, 17, 19, 20]


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ("nothing", "does not exist"),
        ("id LIMIT 1", "syntax error"),
        ("id FOR UPDATE", "syntax error"),
        ("id) OR (true", "syntax error"),
        ("id; DROP TABLE docs", "multiple commands"),
        ("1", "not in select list"),
        ("count(*)", "aggregate function calls cannot be nested"),
        ("generate_series(1, 3)", "set-returning"),
        ("$1", "parameter"),
    ],
)
def test_what_is_no_list_of_sort_keys_is_refused(database, connect, order, why):
    make_docs(connect, 3)
    with pytest.raises(ConfigError, match=f"--order-by does not work as SQL sort keys on public.docs: .*{why}"):
        fill(database, order_by=order)
    assert filled(connect) == []


def test_an_order_that_fails_on_a_row_ends_the_run(database, connect):
    make_docs(connect, 3)
    with pytest.raises(ConfigError, match="--order-by fails on a row of public"):
        fill(database, order_by="1 / seen")


def test_a_stop_interrupts_the_sort(database, connect):
    make_docs(connect, 3)
    stop = Stop()

    def end(_) -> None:
        wait_until(
            lambda: connect.execute(
                "SELECT true FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
            ).fetchone()
        )
        stop.set("SIGTERM")

    options = replace(INLINE, order_by="(SELECT seen FROM pg_sleep(60))")
    with meanwhile(end):
        result = run(DOCS, MODEL, database=database, options=options, stop=stop)
    assert (result.outcome, result.exit_code, result.updated, result.remaining) == ("stopped", 143, 0, 3)


def test_an_order_that_takes_too_long_names_the_limit(database, connect):
    make_docs(connect, 3)
    slowly = Database(database + "&options=-c%20statement_timeout%3D300ms")
    with pytest.raises(ConfigError, match="--order-by takes longer than statement_timeout allows"):
        fill(slowly, order_by="(SELECT 1 FROM pg_sleep(2))")
