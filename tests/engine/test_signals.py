"""Signals: the first one asks for a clean end, whatever stopped the run before, and the second one ends it at once."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from vecfill.engine import signals
from vecfill.engine.cluster import sigterm_kept
from vecfill.engine.signals import default_handlers, exit_code, stopping
from vecfill.errors import StoppedError
from vecfill.job import BUDGET, Stop
from vecfill.termination import Terminated


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("reason", [None, "max-seconds", BUDGET])
@pytest.mark.parametrize("number", list(signals.SIGNALS))
def test_a_signal_after_any_stop_is_the_first_and_a_second_one_ends(monkeypatch, number, reason):
    ended: list[int] = []
    monkeypatch.setattr(signals.os, "_exit", ended.append)
    stop = Stop()
    with stopping(stop, signals=True):
        if reason:
            stop.set(reason)
        send(number)
        assert (stop.is_set(), exit_code(stop.reason), ended) == (True, 128 + number, [])
        send(signal.SIGINT)
        assert ended == [130]


def test_a_process_that_ignores_a_hangup_goes_on():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping(Stop(), signals=True):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_is_said_in_the_log_whatever_its_format(caplog, capsys):
    with caplog.at_level("INFO", "vecfill"), stopping(Stop(), signals=True):
        send(signal.SIGTERM)
    assert "stopping: committing batches in flight" in caplog.text
    assert capsys.readouterr().err == ""


def test_a_question_on_the_terminal_ends_with_a_signal():
    stop = Stop()
    with stopping(stop, signals=True):
        with pytest.raises(KeyboardInterrupt), default_handlers():
            send(signal.SIGINT)
        with pytest.raises(Terminated), default_handlers():
            send(signal.SIGTERM)
        assert not stop.is_set()
        send(signal.SIGINT)
    assert stop.reason == "SIGINT"


def _as_ray_init() -> None:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
    send(signal.SIGTERM)


def test_ray_does_not_keep_sigterm():
    """``ray.init`` installs a handler that raises SystemExit."""
    stop = Stop()
    with stopping(stop, signals=True):
        with pytest.raises(StoppedError), sigterm_kept():
            _as_ray_init()
        assert stop.reason == "SIGTERM"
        with sigterm_kept():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert callable(signal.getsignal(signal.SIGTERM))
