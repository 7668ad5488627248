"""``--index auto``: both ways measured on a sample that is rolled back, and what the figures mean."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace

import pytest
from tests.indexing.indexed import indexed_docs, outdate, shape, waiting
from tests.ledger.tracked import fill
from tests.tables import DOCS, INLINE, MODEL, make_docs, relation_of

from vecfill import plan
from vecfill.backfill import index_choice
from vecfill.backfill.forecast import IndexForecast
from vecfill.backfill.index_choice import ways
from vecfill.indexing.build_cost import build_seconds
from vecfill.indexing.dropping import check_rebuildable
from vecfill.ledger.registry import find_tracked
from vecfill.postgres.database import Database

HOUR = IndexForecast(names=("near",), keep_s=3_600.0, build_s=60.0)


@pytest.mark.parametrize(
    ("ahead", "model_rows_per_s", "rebuilds", "says"),
    [
        (HOUR, 50_000.0, True, "1 h 0 min with the indexes, 3 min without them and with their build"),
        (replace(HOUR, build_s=3_000.0), 50_000.0, False, "52 min without them and with their build"),
        (HOUR, 100.0, False, "the model takes the longest, about 2 h 47 min"),
    ],
)
def test_the_indexes_go_where_that_makes_the_run_twice_as_fast(ahead, model_rows_per_s, rebuilds, says):
    found = ways(ahead, 1_000_000, model_rows_per_s)
    assert found.rebuilds == rebuilds
    assert says in found.reason


def test_both_ways_are_measured_and_rolled_back(connect, database, caplog, monkeypatch):
    monkeypatch.setattr(index_choice, "MEASURED_ROWS", 5)
    indexed_docs(connect, database)
    before = shape(connect), connect.execute("SELECT sum(hashtext(embedding::text)) FROM docs").fetchone()
    relation = relation_of(database)
    with closing(Database(database).connect()) as connection:
        tracked = find_tracked(connection, relation, DOCS)
        (index,) = check_rebuildable(connection, tracked.relation)
        plain = replace(index, rest=index.rest.partition(" WHERE ")[0])
        assert (
            0
            < build_seconds(connection, relation, [plain], 2_000)
            < build_seconds(connection, relation, [plain], 10**9)
        )
        assert build_seconds(connection, relation, [index], 2_000) is None
    assert (shape(connect), connect.execute("SELECT sum(hashtext(embedding::text)) FROM docs").fetchone()) == before
    outdate(connect)
    monkeypatch.setattr(index_choice, "WORTH", 0.0)
    with caplog.at_level(logging.INFO, "vecfill"):
        result = fill(database, index="auto")
    assert (result.forecast.indexed.measured_rows, result.forecast.indexed.rebuild) == (10, True)
    assert [one.state for one in result.indexes] == ["built"]
    assert "--index auto: rebuild" in caplog.text
    assert "(measured on 10 rows)" in caplog.text
    assert (shape(connect), waiting(connect)) == (before[0], [])


def test_a_plan_says_what_becomes_of_the_indexes_and_touches_none(connect, database, monkeypatch, caplog):
    monkeypatch.setattr("vecfill.backfill.forecast.MAX_INDEXED_ROWS", 5)
    indexed_docs(connect, database)
    outdate(connect)
    before = shape(connect)
    kept = plan(DOCS, MODEL, database=database, options=INLINE)
    dropped = plan(DOCS, MODEL, database=database, options=replace(INLINE, index="rebuild"))
    assert [one.forecast.indexed.rebuild for one in (kept, dropped)] == [False, True]
    assert (kept.exit_code, dropped.refusals) == (2, ())
    with caplog.at_level(logging.INFO, "vecfill"):
        plan(DOCS, MODEL, database=database, options=replace(INLINE, index="auto"))
    assert "(by known figures; a run measures)" in caplog.text
    assert (shape(connect), waiting(connect)) == (before, [])


def test_a_plan_refuses_what_a_run_does(connect, database):
    make_docs(connect, 3)
    connect.execute("CREATE INDEX ON docs USING hnsw (embedding vector_cosine_ops)")
    found = plan(DOCS, MODEL, database=database, options=replace(INLINE, index="rebuild"))
    assert "docs is not tracked: run `vecfill track` first" in found.refusals[0].message
