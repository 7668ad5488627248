"""Vectors of unknown origin become a model's once a sample agrees; what no sample can vouch for stays unknown."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import pytest
from tests.ledger.tracked import assert_current, fill, make_partitioned_docs
from tests.tables import DOCS, MODEL, another, make_docs

from vecfill import ConfigError, Database, LeaseError, MixedModelsError, track
from vecfill.adoption import adopt
from vecfill.postgres.session import Session


def filled_docs(connect, database, rows=20, target=DOCS):
    """A table as it was filled before it is tracked."""
    make_docs(connect, rows)
    assert fill(database, target).updated == rows


def origins(connect):
    return connect.execute("SELECT count(*) FROM vecfill.vector_1 WHERE model > 0").fetchone()[0]


def test_adopted_vectors_are_current_and_follow_their_texts(database, connect):
    filled_docs(connect, database)
    found = track(DOCS, database=database, adopt=MODEL).adopted
    assert (found.rows, found.compared, found.agreeing) == (20, 20, 20)
    assert track(DOCS, database=database, adopt=MODEL).adopted.rows == 0
    assert (fill(database).updated, fill(database, select="all").updated, fill(database).unknown) == (0, 0, 0)
    connect.execute("UPDATE docs SET title = 'x' WHERE id < 4")
    assert fill(database).updated == 3
    assert_current(connect)


def test_a_dry_run_adopts_nothing(database, connect):
    filled_docs(connect, database, 3)
    assert track(DOCS, database=database, adopt=MODEL, dry_run=True).adopted is None
    assert not connect.execute("SELECT FROM pg_namespace WHERE nspname = 'vecfill'").fetchall()


def test_vectors_of_another_model_are_refused_with_figures_and_stay_unknown(database, connect):
    filled_docs(connect, database, target=replace(DOCS, text="{note}"))
    with pytest.raises(
        MixedModelsError, match=r"0 of 20 sampled vectors of public\.docs\.embedding agree.*--select all"
    ):
        track(DOCS, database=database, adopt=MODEL)
    assert origins(connect) == 0
    assert (fill(database).updated, fill(database).unknown) == (0, 20)


def test_a_model_that_cannot_have_made_them_is_refused_before_anything_is_made(database, connect):
    filled_docs(connect, database, 3)
    with pytest.raises(ConfigError, match="but model hash:16 gives 16"):
        track(DOCS, database=database, adopt=replace(MODEL, name="hash:16"))
    assert not connect.execute("SELECT FROM pg_namespace WHERE nspname = 'vecfill'").fetchall()


@pytest.mark.parametrize(
    ("change", "adopted", "updated"),
    [
        ("UPDATE docs SET title = 'new ' || id WHERE id < 4", 17, 3),
        ("UPDATE docs SET title = ' ' WHERE id < 4", 17, 0),
        ("UPDATE docs SET embedding = NULL WHERE id < 4", 17, 3),
        ("UPDATE docs SET embedding = array_fill(0, ARRAY[8])::vector WHERE id < 4", 17, 0),
        ("DELETE FROM docs WHERE id < 4", 17, 0),
        ("INSERT INTO docs (id, title, note, embedding) SELECT 50, 'y', '', embedding FROM docs WHERE id = 1", 20, 0),
        ("UPDATE docs SET note = 'x'", 20, 0),
    ],
)
def test_what_changed_since_tracking_began_is_not_adopted(database, connect, change, adopted, updated):
    filled_docs(connect, database)
    track(DOCS, database=database)
    connect.execute(change)
    assert track(DOCS, database=database, adopt=MODEL).adopted.rows == adopted
    assert fill(database).updated == updated
    assert origins(connect) == adopted + updated


def test_an_edit_that_commits_after_the_adoption_is_followed(database, connect):
    filled_docs(connect, database, 5)
    track(DOCS, database=database)
    with another(database) as editor, closing(Session(Database(database))) as session:
        editor.execute("UPDATE docs SET title = 'late' WHERE id = 1")
        assert adopt(session, DOCS, MODEL).rows == 5
        editor.commit()
    assert fill(database).updated == 1
    assert_current(connect)


def test_only_what_where_selects_is_adopted_in_any_partition_and_by_any_key(database, connect):
    make_partitioned_docs(connect)
    fill(database)
    assert track(replace(DOCS, where="id > 5"), database=database, adopt=MODEL).adopted.rows == 15


def test_a_run_in_progress_is_left_alone(database, connect):
    filled_docs(connect, database, 3)
    track(DOCS, database=database)
    connect.execute("UPDATE vecfill.target SET holder = 'x', held_until = now() + '1 h', held_since = now()")
    with pytest.raises(LeaseError, match="being worked on"):
        track(DOCS, database=database, adopt=MODEL)
    assert origins(connect) == 0


def test_the_command_says_what_it_adopted(database, connect, vecfill):
    filled_docs(connect, database, 3)
    given = ("track", "-d", database, "-t", "docs", "--text", "{title}", "--adopt")
    assert vecfill(*given).code == 2
    ended = vecfill(*given, "-m", "hash:8", "--json")
    assert json.loads(ended.out)["adopted"] == {"rows": 3, "compared": 3, "agreeing": 3}
    assert "0 vectors of unknown origin adopted" in vecfill(*given, "-m", "hash:8").out
