"""``kill -9`` of a run that has dropped an index, at each step: the next run leaves all as it was."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import pytest
from tests.indexing.indexed import indexed_docs, outdate, rebuilt, shape, stopped, waiting
from tests.kills import killed_before_statement
from tests.ledger.tracked import assert_current, fill

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]


def end_lease(connect: psycopg.Connection) -> None:
    connect.execute("UPDATE vecfill.target SET held_until = clock_timestamp()")


def test_a_run_that_is_killed_anywhere_leaves_the_index_or_its_definition(connect, database):
    indexed_docs(connect, database)
    outdate(connect, "id < 5")
    before, number, gone = shape(connect), 1, 0
    while killed_before_statement(number, lambda: rebuilt(database)):
        assert bool(waiting(connect)) or shape(connect) == before
        gone += not shape(connect)
        end_lease(connect)
        again = fill(database)
        assert (again.exit_code, shape(connect), waiting(connect)) == (0, before, [])
        outdate(connect, "id < 5")
        number = number * 2 + 1
    assert gone > 1
    assert (shape(connect), waiting(connect)) == (before, [])
    assert_current(connect)


def test_a_run_that_is_killed_while_the_server_builds(connect, database):
    """A transaction that has written to the table holds the build up, and the server goes on without its client."""
    indexed_docs(connect, database)
    before = shape(connect)
    outdate(connect)
    stopped(database, "SIGTERM")
    with psycopg.connect(database) as other:
        other.execute("INSERT INTO docs (id, title, note) VALUES (99, 'new', '')")
        if not (child := os.fork()):
            try:
                fill(database)
            finally:
                os._exit(1)
        building = "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()"
        while not connect.execute(building).fetchone()[0]:
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert waiting(connect) == ["docs_near"]
    end_lease(connect)
    assert fill(database).exit_code == 0
    assert (shape(connect), waiting(connect)) == (before, [])
    assert_current(connect)
