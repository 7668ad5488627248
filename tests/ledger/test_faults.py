"""Tracked targets under faults: what leaves and comes back, other roles, other runs, kills, and a ledger that goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.ledger.tracked import assert_current, fill, queue, tracked_docs
from tests.tables import DOCS, MODEL, make_docs, role

from vecfill import MixedModelsError, track

OTHER = replace(MODEL, truncate_dim=8)
"""The same vectors under another fingerprint."""

PARTITIONED = (
    "CREATE TABLE docs (id int, part int, title text, embedding vector(8), PRIMARY KEY (id, part))"
    " PARTITION BY LIST (part);"
    "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES IN (1); CREATE TABLE docs_2 PARTITION OF docs FOR VALUES IN (2);"
    "INSERT INTO docs SELECT n, 1 + n % 2, 'title ' || n FROM generate_series(1, 20) n"
)
EDIT_2 = "UPDATE docs_2 SET title = 'unseen' WHERE id < 4"


@pytest.mark.parametrize(
    "edit",
    [
        f"ALTER TABLE docs DETACH PARTITION docs_2; {EDIT_2};"
        "ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES IN (2)",
        f"ALTER TABLE docs_2 DISABLE TRIGGER USER; {EDIT_2}",
        "UPDATE docs SET title = 'moved', part = 3 - part WHERE id IN (3, 4)",
    ],
    ids=["detached", "disabled", "moved with another text"],
)
def test_edits_that_a_partition_hides_are_found(database, connect, edit):
    connect.execute(PARTITIONED)
    track(DOCS, database=database)
    assert fill(database).updated == 20
    connect.execute(edit)
    assert fill(database).updated == 2
    assert_current(connect)


def test_another_model_in_a_detached_partition_does_not_count(database, connect):
    connect.execute(PARTITIONED)
    track(DOCS, database=database)
    assert fill(database).updated == 20
    connect.execute("ALTER TABLE docs DETACH PARTITION docs_2")
    assert fill(database, model=OTHER, select="all").updated == 10
    connect.execute("UPDATE docs SET title = 'x' WHERE id = 2")
    assert fill(database, model=OTHER).updated == 1
    connect.execute(f"ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES IN (2); {EDIT_2}")
    with pytest.raises(MixedModelsError, match="holds 10 by hash:8"):
        fill(database, model=OTHER)


def test_edits_while_triggers_were_disabled_are_found_after_track_is_repeated(database, connect):
    tracked_docs(connect, database)
    connect.execute("ALTER TABLE docs DISABLE TRIGGER USER; UPDATE docs SET title = 'unseen' WHERE id < 4")
    track(DOCS, database=database)
    assert fill(database).updated == 3
    assert_current(connect)


def test_edits_of_rows_that_where_excludes_do_not_stay_in_the_queue(database, connect):
    """Here of rows whose vectors another target of the column made."""
    make_docs(connect, 10)
    first, second = (replace(DOCS, where=f"id % 2 = {n}") for n in (0, 1))
    for target in (first, second):
        track(target, database=database)
        assert fill(database, target).updated == 5
    connect.execute("UPDATE docs SET title = 'x ' || id WHERE id < 5")
    for number, target in enumerate((first, second), 1):
        found = fill(database, target)
        assert (found.updated, found.queued_after, queue(connect, number)) == (2, 0, {})
    connect.execute("UPDATE docs SET id = 101 WHERE id = 2")  # from one target to the other
    assert [fill(database, target).updated for target in (first, second)] == [0, 1]
    assert_current(connect)


def test_what_a_policy_hides_from_a_role_stays_in_the_queue(database, connect):
    tracked_docs(connect, database)
    with role(connect, database) as uri:
        name = connect.execute("SELECT 'filler_' || current_database()").fetchone()[0]
        for grant in track(DOCS, database=database).grants:
            connect.execute(grant.replace("TO ROLE", f'TO "{name}"'))
        connect.execute(
            "ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON docs USING (id > 10);"
            "UPDATE docs SET title = 'x ' || id WHERE id IN (9, 11); DELETE FROM docs WHERE id IN (8, 12)"
        )
        found = fill(uri)
        assert (found.updated, found.row_security) == (1, True)
        assert fill(database).updated == 1
    assert queue(connect) == {}
    assert_current(connect)
    assert connect.execute("SELECT count(*) FROM vecfill.vector_1").fetchone() == (18,)
