"""Which model a vector came from: mixing, replacing, adopting."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.ledger.tracked import assert_current, fill, tracked_docs
from tests.tables import DOCS, MODEL, make_docs

from vecfill import ConfigError, MixedModelsError, search, track, untrack

OTHER = replace(MODEL, truncate_dim=8)
"""The same vectors under another fingerprint."""


def test_another_model_is_refused_by_count_and_name_and_replaces_when_asked(database, connect):
    tracked_docs(connect, database)
    assert fill(database, model=OTHER).updated == 0  # nothing to write, so nothing mixes
    connect.execute("UPDATE docs SET title = 'x' WHERE id < 4")
    with pytest.raises(MixedModelsError, match=r"20 by hash:8 \(model 1 of the ledger\)"):
        fill(database, model=OTHER)
    found = fill(database, model=OTHER, select="all")
    assert (found.exit_code, found.updated, found.selected["other_model"]) == (0, 20, 20)
    assert fill(database, model=OTHER, select="all").updated == 0
    connect.execute("UPDATE docs SET title = 'y' WHERE id < 4")
    assert fill(database, model=OTHER).updated == 3
    assert_current(connect)


def test_a_key_that_comes_back_without_a_vector_is_no_other_models(database, connect):
    tracked_docs(connect, database)
    connect.execute("DELETE FROM docs WHERE id = 1")
    assert fill(database, model=OTHER, select="all").updated == 19
    connect.execute(
        "INSERT INTO vecfill.vector_1 SELECT 1, 1, ''; INSERT INTO docs (id, title, note) VALUES (1, 'x', '')"
    )
    assert fill(database, model=OTHER).updated == 1


def test_a_replacement_goes_on_where_it_was_stopped(database, connect):
    tracked_docs(connect, database)
    assert fill(database, model=OTHER, select="all", limit=5).updated == 5
    assert fill(database, model=OTHER, select="all").updated == 15


def test_models_mix_when_asked(database, connect):
    tracked_docs(connect, database)
    connect.execute("UPDATE docs SET title = 'x' WHERE id < 4")
    assert fill(database, model=OTHER, allow_mixed=True).updated == 3
    models = connect.execute("SELECT model, count(*) FROM vecfill.vector_1 GROUP BY 1 ORDER BY 1").fetchall()
    assert models == [(1, 17), (2, 3)]


def test_the_type_of_the_computation_makes_no_other_model(database, connect):
    tracked_docs(connect, database)
    connect.execute("UPDATE docs SET title = 'x' WHERE id < 4")
    assert fill(database, model=replace(MODEL, dtype="float32", device="cpu")).updated == 3


def test_vectors_of_unknown_origin_are_counted_and_left_alone_until_their_text_changes(database, connect):
    make_docs(connect, 20)
    assert fill(database).updated == 20
    track(DOCS, database=database)
    found = fill(database)
    assert (found.updated, found.unknown) == (0, 20)
    connect.execute("UPDATE docs SET title = 'x' WHERE id < 4; INSERT INTO docs (id, title, note) VALUES (50, 'y', '')")
    assert fill(database).updated == 4
    assert_current(connect)
    replaced = fill(database, select="all")
    assert (replaced.updated, replaced.selected["unknown"], replaced.unknown) == (17, 17, 0)


def test_a_vector_of_unknown_origin_without_a_text_is_cleared_when_all_are_replaced(database, connect):
    make_docs(connect, 3)
    connect.execute(
        "UPDATE docs SET embedding = array_fill(1, ARRAY[8])::vector, title = CASE WHEN id > 1 THEN 'x' END"
    )
    track(DOCS, database=database)
    assert (fill(database).unknown, fill(database).cleared) == (2, 0)
    found = fill(database, select="all")
    assert (found.updated, found.cleared, found.queued_after) == (2, 1, 0)
    assert_current(connect)


@pytest.mark.parametrize("options", [{"select": "changed"}, {"select": "all"}, {"audit": True}])
def test_an_untracked_target_cannot_tell(database, connect, options):
    make_docs(connect, 3)
    with pytest.raises(ConfigError, match="vecfill track"):
        fill(database, **options)
    assert fill(database, select="missing").updated == 3


def test_a_search_with_another_model_than_the_vectors_is_refused_and_needs_none(database, connect, vecfill):
    tracked_docs(connect, database)
    search(DOCS, MODEL, "words", database=database)
    with pytest.raises(MixedModelsError, match="come from hash:8, and this search uses hash:8 with other weights"):
        search(DOCS, OTHER, "words", database=database)
    assert vecfill("search", "-d", database, "-t", "docs", "--json", "title 7").json["hits"][0]["key"] == "7"
    untrack(DOCS, database=database)
    refused = vecfill("search", "-d", database, "-t", "docs", "title 7")
    assert (refused.code, refused.out) == (2, "")
    assert "the vectors of docs.embedding have no model in a ledger: pass --model" in refused.err
