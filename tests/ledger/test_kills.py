"""Tracked targets and processes: ``kill -9`` before any commit, a paused run that another takes over, the soak."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kills import killed_before_commit, killed_before_written_commit
from tests.ledger.tracked import assert_current, fill, queue, tracked_docs
from tests.soak.runs import start
from tests.tables import DOCS, another, make_docs, wait_until

from vecfill import track, untrack

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12, beside threads

EDITS = """
UPDATE docs SET title = 'edit {n} ' || id WHERE id = 1; UPDATE docs SET embedding = NULL WHERE id = 2;
DELETE FROM docs WHERE id = 3; INSERT INTO docs (id, title, note) VALUES (3, 'new {n}', '');
UPDATE docs SET title = CASE WHEN title = '' THEN 'back {n}' ELSE '' END WHERE id = 4;
UPDATE docs SET id = -id WHERE abs(id) = 5
"""


@pytest.mark.slow
def test_a_run_that_is_killed_before_any_of_its_commits_is_done_by_the_next(database, connect):
    """A statement is undone with its transaction, so these are all the places that make a difference.

    Of 42 commits, nine end a transaction that wrote.
    """
    tracked_docs(connect, database)
    for number in range(1, 100):
        connect.execute(EDITS.format(n=number))
        if not killed_before_written_commit(number, lambda: fill(database)):
            break
        connect.execute("UPDATE vecfill.target SET held_until = clock_timestamp()")  # as if its lease had ended
        assert fill(database).exit_code == 0
        assert queue(connect) == {}
        assert_current(connect)
    assert 7 < number < 99
    again = fill(database, audit=True)
    assert (again.updated, again.cleared, again.unknown) == (0, 0, 0)


@pytest.mark.slow
def test_track_and_untrack_that_are_killed_are_done_by_the_next(database, connect):
    make_docs(connect, 5)
    for act in (track, untrack):
        number = 1
        while killed_before_commit(number, lambda act=act: act(DOCS, database=database)):
            number += 1
            left = connect.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docs'::regclass").fetchone()
            assert left == ((0,) if act is track else (5,))
        assert number > 3
        if act is track:
            assert fill(database).updated == 5
    assert connect.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'vecfill'").fetchone() == (0,)
    assert connect.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docs'::regclass").fetchone() == (0,)


@pytest.mark.slow
def test_a_run_paused_while_another_takes_over_writes_nothing_more(database, connect, tmp_path):
    tracked_docs(connect, database, filled=False)
    target = ("-d", database, "-t", "docs", "--text", "{title}", "-m", "hash:8", "--engine", "inline")
    with another(database) as other:
        other.execute("SELECT FROM docs WHERE id = 7 FOR UPDATE")  # so that it does not end
        pid = start(tmp_path / "paused", ("run", *target))
        wait_until(lambda: connect.execute("SELECT count(embedding) FROM docs").fetchone() == (19,), 30)
        second = start(tmp_path / "second", ("run", *target))
        assert os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]) == 4
        assert f"process {pid} since" in (tmp_path / "second" / "err").read_text()
        os.kill(pid, signal.SIGSTOP)
        other.rollback()
    connect.execute("UPDATE docs SET title = 'x' WHERE id = 1")
    connect.execute("UPDATE vecfill.target SET held_until = clock_timestamp()")  # as if its lease had ended
    assert fill(database).exit_code == 0
    written = connect.execute("SELECT id, xmin::text FROM docs ORDER BY 1").fetchall()
    os.kill(pid, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert "no longer holds public.docs" in (tmp_path / "paused" / "err").read_text()
    assert connect.execute("SELECT id, xmin::text FROM docs ORDER BY 1").fetchall() == written
    assert_current(connect)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_soak():
    command = [sys.executable, "-m", "tests.soak", "--minutes", "1"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
