"""Signals to a whole process: what is in flight is committed and counted, and a rerun goes on."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from tests.faults.processes import EXIT, OURS, completes, filled, stopped, vecfill, wait_for_backends
from tests.tables import DOCS, MODEL, assert_every_vector_is_its_texts, make_docs, meanwhile, rest, wait_until

from vecfill.backfill.run import run
from vecfill.config.engine import EngineOptions
from vecfill.config.limits import WriteLimits
from vecfill.config.run import RunOptions

pytestmark = pytest.mark.slow

ROWS, RATE = 20_000, "4000"
"""What a run takes five seconds for."""


@pytest.mark.parametrize("number", EXIT)
def test_a_signal_ends_the_run_cleanly(connect, database, number):
    """For one on Ray see ``engine/test_shadow.py``."""
    make_docs(connect, ROWS)
    before = rest(connect)
    with vecfill(database, "--engine", "inline", "--max-rate", RATE) as process:
        said = stopped(process, connect, number)
    assert (said["outcome"], said["engine"], said["exit_code"]) == ("stopped", "inline", EXIT[number])
    assert 0 < said["updated"] < ROWS
    assert said["updated"] == filled(connect) == said["after"]["filled"]
    assert said["remaining"] == ROWS - said["updated"]
    wait_for_backends(connect)
    completes(connect, database, ROWS, "--engine", "inline")
    assert_every_vector_is_its_texts(connect, rows=ROWS)
    assert rest(connect) == before


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own settings, at its import
def test_ctrl_c_ends_a_run_on_ray_cleanly(connect, database, warm):
    make_docs(connect, ROWS)

    def press(done: threading.Event) -> None:
        wait_until(lambda: done.is_set() or filled(connect), 90)
        os.kill(os.getpid(), signal.SIGINT)

    options = RunOptions(engine=EngineOptions(engine="ray"), write_limits=WriteLimits(max_rate=float(RATE)))
    with meanwhile(press):
        result = run(DOCS, MODEL, database=database, options=options, signals=True, warm=warm)
    assert (result.outcome, result.engine, result.exit_code) == ("stopped", "ray", 130)
    assert 0 < result.updated == filled(connect) == ROWS - result.remaining
    wait_for_backends(connect)
    assert_every_vector_is_its_texts(connect, rows=result.updated)


def test_a_second_signal_ends_at_once_and_leaves_nothing_half_written(connect, database):
    """The batch in flight would take 40 s more."""
    rows = 4_000
    make_docs(connect, rows)
    connect.execute(
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.id > 600 THEN PERFORM pg_sleep(0.02); END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()"
    )
    with vecfill(database, "--engine", "inline") as process:
        wait_until(
            lambda: connect.execute(
                f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND wait_event = 'PgSleep'"
            ).fetchone()[0]
        )
        process.send_signal(signal.SIGTERM)
        assert any("stopping: " in line for line in process.stderr)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(15)
    assert process.returncode == 143
    wait_for_backends(connect)
    connect.execute("DROP TRIGGER act ON docs")
    assert_every_vector_is_its_texts(connect)
    assert filled(connect) < rows
    completes(connect, database, rows, "--engine", "inline")
    assert_every_vector_is_its_texts(connect, rows=rows)
