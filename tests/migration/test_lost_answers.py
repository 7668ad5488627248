"""A connection that breaks when a step of a migration has been committed: the step is done, and says so."""

from __future__ import annotations

import psycopg
import pytest
from tests.migration.moving import begin, end, give_up, move, phases, searched_docs, swap_back, swap_it
from tests.tables import DOCS

from vecfill.migration import swap
from vecfill.migration.state import migration_status

pytestmark = pytest.mark.slow  # whole migrations


def losing_the_answer(monkeypatch, work, *, holding: str = "LOCK TABLE"):
    """Does the work; the connection breaks after the commit of the first transaction with such a statement."""
    execute, commit, state = psycopg.RawCursor.execute, psycopg.Connection.commit, ["waiting"]

    def executes(self, query, *arguments, **options):
        if state == ["waiting"] and holding in str(query):
            state[:] = [self.connection]
        return execute(self, query, *arguments, **options)

    def commits(self):
        commit(self)
        if state == [self]:
            state[:] = ["lost"]
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.RawCursor, "execute", executes)
        patch.setattr(psycopg.Connection, "commit", commits)
        done = work()
    assert state == ["lost"]
    return done


def test_a_step_whose_answer_is_lost_is_done_and_not_tried_twice(connect, database, monkeypatch):
    searched_docs(connect, database)
    assert losing_the_answer(monkeypatch, lambda: begin(database)).created
    assert losing_the_answer(monkeypatch, lambda: give_up(database)).done
    assert losing_the_answer(monkeypatch, lambda: begin(database)).created
    moved = losing_the_answer(monkeypatch, lambda: move(database), holding="migration_phase")
    assert moved.phase == "indexed"
    monkeypatch.setattr(swap, "drain", lambda *_: None)
    assert losing_the_answer(monkeypatch, lambda: swap_it(database)).done
    assert losing_the_answer(monkeypatch, lambda: swap_back(database)).done
    assert losing_the_answer(monkeypatch, lambda: end(database)).done
    expected = ["started", "abandoned", "started", "filled", "indexed", "swapped", "rolled back", "finished"]
    assert phases(connect) == expected
    assert migration_status(DOCS, database=database).phase == "finished"
