"""A watch fills what comes and refreshes what changes until it is stopped; a fault of one target is its own."""

from __future__ import annotations

import threading
from dataclasses import replace

import psycopg
import pytest
from tests.ledger.tracked import assert_current, queue, tracked_docs
from tests.queue_table.boards import BOARD, add_jobs, enqueue, make_board
from tests.tables import DOCS, INLINE, add_docs, another, make_docs, wait_until
from tests.watching.watched import watched, watching

from vecfill import ConfigError, track
from vecfill.config.limits import WriteLimits
from vecfill.config.target import Target
from vecfill.encode.stage import EncodeStage
from vecfill.errors import EncodeError
from vecfill.watching import patience

FILLED = "SELECT count(*) = %s FROM docs WHERE embedding IS NOT NULL"


def wait_for(connect: psycopg.Connection, rows: int) -> None:
    wait_until(lambda: connect.execute(FILLED, [rows]).fetchone()[0])


def wait_until_current(connect: psycopg.Connection, number: int = 1) -> None:
    wait_until(lambda: not queue(connect, number))


def test_a_tracked_target_follows_its_edits(database, connect, vecfill):
    tracked_docs(connect, database, 5, filled=False)
    with watching(watched(database)) as going:
        wait_for(connect, 5)
        add_docs(connect, 6, 7)
        connect.execute("UPDATE docs SET title = 'new' WHERE id = 1; UPDATE docs SET title = '' WHERE id = 2")
        connect.execute("DELETE FROM docs WHERE id = 3")
        wait_until_current(connect)
        result = going.end()
    assert_current(connect)
    assert (result.exit_code, result.targets[0].error) == (0, None)
    assert result.targets[0].rows["updated"] == 8
    assert connect.execute("SELECT holder FROM vecfill.target").fetchone() == (None,)
    (outcome, counts) = connect.execute("SELECT outcome, counts FROM vecfill.run ORDER BY started DESC").fetchone()
    assert (outcome, counts["updated"]) == ("stopped", 8)
    shown = vecfill("status", "-d", database, "-t", "docs", "--text", "{title}")
    assert (shown.code, "stopped (0)" in shown.out) == (0, True), shown.err


@pytest.mark.parametrize("indexed", [True, False])
def test_a_target_that_is_not_tracked_is_filled(database, connect, monkeypatch, indexed):
    monkeypatch.setattr(patience, "SCAN_EVERY_S", 0.02)
    make_docs(connect, 5)
    if indexed:
        connect.execute("CREATE INDEX ON docs (id) WHERE embedding IS NULL")
    with watching(watched(database)):
        wait_for(connect, 5)
        add_docs(connect, 6, 9)
        wait_for(connect, 9)
    assert_current(connect)


def test_a_row_that_fails_is_named_and_set_aside_and_does_not_hold_up_the_others(database, connect, caplog):
    make_docs(connect, 3)
    connect.execute("CREATE INDEX ON docs (id) WHERE embedding IS NULL")
    connect.execute(
        "CREATE SEQUENCE tries; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM nextval('tries'); RAISE 'never'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON docs FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION refuse()"
    )
    with watching(watched(database)) as going:
        wait_for(connect, 2)
        add_docs(connect, 4, 4)
        wait_for(connect, 3)
        tries = connect.execute("SELECT last_value FROM tries").fetchone()
        for row in range(5, 8):
            add_docs(connect, row, row)
            wait_for(connect, row - 1)
        result = going.end()
    assert "refused: key 2: never" in caplog.text
    assert connect.execute("SELECT last_value FROM tries").fetchone() == tries
    assert result.targets[0].rows == {"updated": 6, "refused": 1}


def test_a_locked_row_is_filled_once_it_is_free_and_others_meanwhile(database, connect):
    tracked_docs(connect, database, 3)
    with watching(watched(database)), another(database) as other:
        other.execute("SELECT FROM docs WHERE id = 1 FOR UPDATE")
        connect.execute("UPDATE docs SET note = 'x', embedding = NULL WHERE id = 2")
        wait_for(connect, 3)
        other.execute("UPDATE docs SET title = 'mine' WHERE id = 1")
        other.commit()
        wait_until_current(connect)
    assert_current(connect)


@pytest.mark.slow
def test_a_pause_holds_the_watch_and_is_seen(database, connect, tmp_path, caplog):
    tracked_docs(connect, database, 3)
    pause = tmp_path / "pause"
    pause.touch()
    options = replace(INLINE, write_limits=WriteLimits(pause_file=str(pause)), lease=1.0)
    waits = "SELECT progress ->> 'waiting_for' FROM vecfill.run WHERE outcome IS NULL"
    add_docs(connect, 4, 4)
    with watching(watched(database, options=options)):
        wait_until(lambda: "pausing: " in caplog.text)
        add_docs(connect, 5, 5)
        assert connect.execute(FILLED, [3]).fetchone()[0]
        pause.unlink()
        wait_for(connect, 5)
        pause.touch()
        wait_until(lambda: caplog.text.count("pausing: ") == 2)
        wait_until(lambda: "the end of a pause" in (connect.execute(waits).fetchone()[0] or ""))
    assert "stopped after a pause of" in caplog.text


def test_the_target_changes_under_the_watch(database, connect):
    make_docs(connect, 4)
    connect.execute("CREATE INDEX ON docs (id) WHERE embedding IS NULL")
    with watching(watched(database)):
        wait_for(connect, 4)
        connect.execute("ALTER TABLE docs ALTER COLUMN embedding TYPE halfvec(8); ALTER TABLE docs ADD more int")
        add_docs(connect, 5, 5)
        wait_for(connect, 5)


def test_a_fault_of_one_target_ends_it_alone(database, connect, monkeypatch):
    monkeypatch.setattr("vecfill.watching.target_loop.LASTING_S", 0.05)
    tracked_docs(connect, database, 3)
    make_docs(connect, 2, table="more")
    track(more := Target(table="public.more", text="{title}"), database=database)
    with watching(watched(database), watched(database, more)) as going:
        wait_until(lambda: connect.execute("SELECT count(embedding) = 2 FROM more").fetchone()[0])
        connect.execute("ALTER TABLE more RENAME title TO name; INSERT INTO more VALUES (3, 'a', 'b')")
        wait_until(lambda: "watch public.more" not in {thread.name for thread in threading.enumerate()})
        add_docs(connect, 4, 4)
        wait_for(connect, 4)
        result = going.end()
    assert [bool(one.error) for one in result.targets] == [False, True]
    assert result.exit_code == 1


def test_what_cannot_work_is_said_before_anything_is_written(database, connect):
    make_docs(connect, 3)
    wrong = replace(DOCS, text="{no_such_column}")
    with (
        watching(watched(database), watched(database, wrong)) as going,
        pytest.raises(ConfigError, match=r"public\.docs: .*no_such_column"),
    ):
        going.ended()
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone() == (0,)


def test_it_stands_by_while_a_run_holds_the_lease_and_then_takes_over(database, connect):
    tracked_docs(connect, database, 3)
    connect.execute(
        "UPDATE vecfill.target SET holder = 'somebody', held_until = now() + interval '1 hour', holder_name = 'one'"
    )
    add_docs(connect, 4, 4)
    state = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vecfill' AND datname = current_database()"
    with watching(watched(database, options=replace(INLINE, lease=0.2))):
        wait_until(lambda: connect.execute(state).fetchone()[0])
        assert connect.execute(FILLED, [3]).fetchone()[0]
        connect.execute("UPDATE vecfill.target SET held_until = now()")
        wait_for(connect, 4)


def test_a_queue_table_of_the_application_is_drained(database, connect):
    make_board(connect, 5)
    open_entries = "SELECT count(*) = 0 FROM embedding_queue WHERE status <> 'completed'"
    with watching(watched(database, BOARD)):
        wait_until(lambda: connect.execute(open_entries).fetchone()[0])
        add_jobs(connect, 6, 7)
        enqueue(connect, 6, 7)
        wait_until(lambda: connect.execute(open_entries).fetchone()[0])
    assert connect.execute("SELECT count(embedding) FROM jobs").fetchone() == (7,)


def test_the_ledger_shows_a_watch_that_has_nothing_to_do(database, connect):
    tracked_docs(connect, database, 3, filled=False)
    since = "SELECT held_since FROM vecfill.target"
    with watching(watched(database, options=replace(INLINE, lease=0.4))):
        wait_for(connect, 3)
        began = connect.execute(since).fetchone()
        wait_until(lambda: connect.execute("SELECT progress ->> 'step' = 'watching' FROM vecfill.run").fetchone()[0])
        connect.execute("UPDATE docs SET title = 'new'")
        wait_until_current(connect)
        assert connect.execute(since).fetchone() == began


def test_a_model_that_keeps_failing_ends_its_target(database, connect, monkeypatch, caplog):
    monkeypatch.setattr("vecfill.watching.target_loop.LASTING_S", 0.05)
    tracked_docs(connect, database, 3, filled=False)
    with watching(watched(database)) as going:
        wait_for(connect, 3)

        def broken(*_):
            raise EncodeError("the device is gone")

        monkeypatch.setattr(EncodeStage, "__call__", broken)
        add_docs(connect, 4, 4)
        result = going.ended()
    assert (result.exit_code, result.targets[0].error) == (1, "the device is gone")
    assert "no longer watched: the device is gone" in caplog.text
    assert 1 <= caplog.text.count("; trying again until it passes") < 20
    assert queue(connect)
