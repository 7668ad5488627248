"""Signals to a whole process: what is in flight is committed and counted, and a rerun goes on."""

from __future__ import annotations

import signal

import pytest
from tests.faults.processes import EXIT, OURS, completes, filled, stopped, vecfill, wait_for_backends
from tests.tables import assert_every_vector_is_its_texts, make_docs, rest, wait_until

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
    completes(connect, database, ROWS)
    assert_every_vector_is_its_texts(connect, rows=ROWS)
    assert rest(connect) == before


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
    completes(connect, database, rows)
    assert_every_vector_is_its_texts(connect, rows=rows)
