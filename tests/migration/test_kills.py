"""``kill -9`` of each command of a migration, before any of its commits: the same command goes on to the same end."""

from __future__ import annotations

import pytest
from tests.kills import killed_before_commit
from tests.migration.moving import begin, end, indexes, move, phases, searched_docs
from tests.tables import DOCS

from vecfill.migration.state import migration_status

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]


def killed_until_done(connect, database, work) -> int:
    """Repeats the work, killed two commits later each time, until it comes through; returns before which commits."""
    number = 1
    while killed_before_commit(number, work):
        number += 2
        connect.execute("UPDATE vecfill.target SET held_until = clock_timestamp()")  # as if its lease had ended
    return number - 2


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
