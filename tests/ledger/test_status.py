"""What ``status`` says of a tracked target: the work that waits, the runs that were, and the one that is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from tests.ledger.test_failures import failed_docs
from tests.ledger.test_models import OTHER
from tests.ledger.tracked import fill, make_partitioned_docs, tracked_docs
from tests.tables import DOCS, INLINE, MODEL, make_docs, wait_until

from vecfill import MixedModelsError, Target, run, status, track
from vecfill.ledger import run_log
from vecfill.table_status import Watch

TABLE = Target(table="docs")
"""As someone asks who knows no more."""


def test_what_waits_is_what_a_run_then_takes(database, connect):
    make_docs(connect, 20)
    assert fill(database).updated == 20
    track(DOCS, database=database)
    assert status(TABLE, database=database).ledger.unknown is None
    assert fill(database).unknown == 20
    connect.execute(
        "UPDATE docs SET title = 'new' WHERE id < 4; UPDATE docs SET title = ' ' WHERE id = 5;"
        "UPDATE docs SET title = 'x' WHERE id = 6; DELETE FROM docs WHERE id = 7;"
        "UPDATE docs SET embedding = NULL WHERE id = 8; INSERT INTO docs (id, title, note) VALUES (30, 'y', '')"
    )
    found = status(TABLE, database=database)
    counts = found.coverage
    assert (counts.total, counts.filled, counts.missing, counts.empty) == (20, 18, 2, 0)
    assert (counts.changed, counts.unknown, found.ledger.unknown) == (4, 20, 20)
    assert found.ledger.queued == 8
    assert found.ledger.oldest_s >= 0
    taken = fill(database)
    assert taken.selected == {"missing": counts.missing, "changed": counts.changed}
    after = status(TABLE, database=database)
    assert (after.coverage.changed, after.ledger.queued, after.ledger.oldest_s) == (0, 0, None)


def test_rows_that_moved_to_another_key_wait_too(database, connect):
    make_partitioned_docs(connect)
    track(DOCS, database=database)
    fill(database)
    connect.execute("UPDATE docs SET part = 3 - part, title = 'moved ' || id WHERE id <= 4")
    assert status(TABLE, database=database).coverage.changed == 4
    assert fill(database).selected == {"missing": 0, "changed": 4}


def test_failed_rows_are_counted_beside(database, connect):
    failed_docs(connect, database)
    counts = status(TABLE, database=database).coverage
    assert (counts.total, counts.filled, counts.missing, counts.failed) == (20, 19, 0, 1)


def test_runs_are_recorded_with_their_end(database, connect):
    make_docs(connect, 20)
    track(DOCS, database=database)
    first = fill(database, limit=5)
    connect.execute("UPDATE docs SET title = 'new' WHERE id = 1")
    with pytest.raises(MixedModelsError):
        fill(database, model=OTHER)
    failed, done = status(TABLE, database=database).ledger.runs
    assert (done.run_id, done.outcome, done.exit_code, done.rows, done.model) == (first.run_id, "limit", 0, 5, "hash:8")
    assert done.settings == {"table": "public.docs", "text": "{title}", "model": "hash:8", "limit": 5} | {
        "engine": "inline"
    }
    assert (failed.outcome, failed.exit_code, failed.rows) == ("failed", 2, None)
    assert "5 by hash:8" in failed.counts["error"]
    connect.execute("UPDATE vecfill.run SET finished = NULL, outcome = NULL, exit_code = NULL")
    assert {one.outcome for one in status(TABLE, database=database).ledger.runs} == {"died"}


def test_old_runs_are_forgotten(database, connect, monkeypatch):
    monkeypatch.setattr(run_log, "KEPT", 2)
    tracked_docs(connect, database, 3)
    ids = [fill(database).run_id for _ in range(3)]
    assert [one.run_id for one in status(TABLE, database=database).ledger.runs] == ids[:0:-1]


@pytest.mark.slow
def test_a_run_in_progress_is_seen_from_elsewhere(database, connect, vecfill):
    make_docs(connect, 20)
    track(DOCS, database=database)
    seen = []

    def look(event):
        def sweeping():
            held = status(TABLE, database=database).ledger.running
            return held and held.run.progress and held.run.progress["step"] == "sweep" and held

        if event.step == "sweep" and event.done:
            seen.append(wait_until(sweeping))
            seen.append(vecfill("status", "-d", database, "-t", "docs").out)

    found = run(DOCS, MODEL, database=database, options=replace(INLINE, lease=6.0), progress=look)
    held, page = seen[:2]
    assert held.run.run_id == found.run_id
    assert held.run.outcome is None
    assert "process" in held.by
    assert (held.run.progress["done"], held.run.progress["eligible"]) == (20, 20)
    assert "public.docs: running: hash:8, " in page
    assert "20 of 20 rows (100%)" in page
    after = status(TABLE, database=database).ledger
    assert after.running is None
    assert after.runs[0].run_id == found.run_id


def test_a_run_that_cannot_be_recorded_goes_on(database, connect, caplog):
    make_docs(connect, 20)
    track(DOCS, database=database)
    connect.execute("DROP TABLE vecfill.run")
    assert fill(database).updated == 20
    assert caplog.text.count("the run is not recorded in") == 1


def test_the_page_and_the_object(database, connect, vecfill):
    tracked_docs(connect, database)
    connect.execute("UPDATE docs SET title = 'x' WHERE id < 4")
    given = ("status", "-d", database, "-t", "docs")
    page = vecfill(*given).out
    assert "public.docs: 3 changes wait, the oldest for " in page
    assert "complete (0)" in page
    found = vecfill(*given, "--json").json
    assert (found["tracked"], found["queued"], found["changed"], found["running"]) == (True, 3, 3, None)
    assert (found["runs"][0]["outcome"], found["runs"][0]["rows"]) == ("complete", 20)


def test_what_is_asked_otherwise_than_it_is_tracked_is_counted_as_asked(database, connect):
    tracked_docs(connect, database)
    found = status(replace(DOCS, where="id < 5"), database=database)
    assert (found.coverage.total, found.ledger) == (4, None)
    assert "is tracked with --where" in found.run_needs


def test_an_untracked_target_says_no_more_than_before(database, connect, vecfill):
    make_docs(connect, 3)
    found = vecfill("status", "-d", database, "-t", "docs", "--json")
    assert {"tracked", "queued", "runs"} & set(found.json) == set()
    assert "without --text" in found.err


def test_a_repeated_look_does_not_count_a_large_table_each_time(database, connect, monkeypatch):
    monkeypatch.setattr("vecfill.table_status.COUNTING_SHARE", 1e-9)
    tracked_docs(connect, database)
    watch = Watch(TABLE, database)
    assert watch.look().coverage.total == 20
    connect.execute("INSERT INTO docs (id, title, note) VALUES (50, 'x', '')")
    again = watch.look()
    watch.close()
    assert (again.coverage.total, again.ledger.queued) == (20, 1)


@pytest.mark.slow
def test_watch_shows_it_again_until_interrupted(database, connect):
    tracked_docs(connect, database)
    command = [sys.executable, "-m", "vecfill", "status", "-d", database, "-t", "docs", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert json.loads(process.stdout.readline())["queued"] == 0
        connect.execute("UPDATE docs SET title = 'x' WHERE id < 4")
        wait_until(lambda: json.loads(process.stdout.readline())["queued"] == 3)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0
