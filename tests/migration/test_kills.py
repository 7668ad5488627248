"""``kill -9`` of each command of a migration, before any of its commits: the same command goes on to the same end."""

from __future__ import annotations

import pytest
from tests.kills import killed_before_commit, killed_before_statement
from tests.migration.moving import begin, end, give_up, indexes, move, phases, searched_docs, swap_back, swap_it
from tests.tables import DOCS

from vecfill.migration import swap
from vecfill.migration.state import migration_status

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]


def killed_until_done(connect, database, work) -> int:
    """Repeats the work, killed three commits later each time, until it comes through; returns before which commits."""
    number = 1
    while killed_before_commit(number, work):
        number += 3
        connect.execute("UPDATE vecfill.target SET held_until = clock_timestamp()")  # as if its lease had ended
    return number - 3


def test_every_command_that_is_killed_is_done_by_the_next(connect, database):
    searched_docs(connect, database, partitioned=True)
    assert killed_until_done(connect, database, lambda: begin(database)) > 3
    assert phases(connect) == ["started"]
    assert killed_until_done(connect, database, lambda: move(database)) > 10
    assert phases(connect) == ["started", "filled", "indexed"]
    found = migration_status(DOCS, database=database)
    assert (found.phase, {index.state for index in found.indexes}) == ("indexed", {"ready"})
    assert (found.coverage.coverage.missing, found.coverage.ledger.queued) == (0, 0)
    assert killed_until_done(connect, database, lambda: end(database)) > 2
    assert not end(database).done
    assert indexes(connect, "embedding") == {}
    assert connect.execute("SELECT embedding FROM vecfill.target").fetchall() == [("embedding_next",)]


def test_abandon_that_is_killed_is_done_by_the_next(connect, database):
    searched_docs(connect, database)
    begin(database)
    move(database)
    assert killed_until_done(connect, database, lambda: give_up(database)) > 2
    assert migration_status(DOCS, database=database).phase == "abandoned"
    assert not give_up(database).done
    assert indexes(connect, "embedding_next") == {}
    assert connect.execute("SELECT embedding FROM vecfill.target").fetchall() == [("embedding",)]


def test_a_swap_or_rollback_that_is_killed_after_any_statement_is_all_or_nothing(connect, database, monkeypatch):
    searched_docs(connect, database)
    begin(database)
    move(database)
    monkeypatch.setattr(swap, "drain", lambda *_: None)  # nothing is queued, and a run each time takes seconds
    for act, phase, column in ((swap_it, "swapped", "embedding_old"), (swap_back, "rolled back", "embedding_next")):
        before, number = phases(connect), 1
        while killed_before_statement(number, lambda act=act: act(database)):
            number += 1 if act is swap_it else 4
            names = {name for (name,) in connect.execute("SELECT embedding FROM vecfill.target").fetchall()}
            noted = connect.execute("SELECT old_column, new_column FROM vecfill.migration").fetchone()
            assert set(noted) == names
            if phases(connect) == before:
                assert column not in names
            else:
                assert (phases(connect)[-1], number > 15) == (phase, True)
                assert column in names
        assert number > 15
        assert phases(connect)[-1] == phase
        assert migration_status(DOCS, database=database).phase == phase
        assert not act(database).done
