"""SIGTERM outside a run: the statement is cancelled and the end reported; after the result the code stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from subprocess import PIPE

import pytest
from tests.faults.processes import BACKENDS
from tests.tables import make_docs, wait_until
from tests.traces import loggers_restored

from vecfill import termination
from vecfill.termination import Terminated, keep_code, raise_on_sigterm, stop_code

SLOW = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"


def test_sigterm_raises_and_has_the_shells_code():
    with loggers_restored():
        raise_on_sigterm()
        with pytest.raises(KeyboardInterrupt) as stopped:
            os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(stopped.value, Terminated)
    assert (stop_code(stopped.value), stop_code(KeyboardInterrupt())) == (143, 130)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_end_keeps_the_code_of_the_result(monkeypatch, number):
    ended: list[int] = []
    monkeypatch.setattr(termination.os, "_exit", ended.append)
    with loggers_restored():
        keep_code(3)
        os.kill(os.getpid(), number)
    assert ended == [3]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_status_with_its_object_and_its_statement(connect, database, number, code):
    make_docs(connect, 5)
    given = ("status", "-d", database, "-t", "docs", "--text", "title", "--where", "pg_sleep(60) IS NOT NULL", "--json")
    with subprocess.Popen([sys.executable, "-m", "vecfill", *given], stdout=PIPE, stderr=PIPE, text=True) as process:
        wait_until(lambda: process.poll() is not None or connect.execute(SLOW).fetchone() != (0,), 60)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)) == (code, {"error": "stopped", "exit_code": code})
    assert "Traceback" not in err
    wait_until(lambda: connect.execute(BACKENDS).fetchone() == (0,), 30)
