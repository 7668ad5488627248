"""The parts of a watch that need no server: waits, warnings said once, rows set aside, the service manager."""

from __future__ import annotations

import logging
import os
import socket
import threading
import weakref

import psycopg
import pytest

from vecfill.backfill.pacing import THREAD as PACING_THREAD
from vecfill.errors import ConfigError, DatabaseError, EncodeError, PartialRunError
from vecfill.log_fields import logged_with
from vecfill.postgres.database import Database
from vecfill.watching import faults, rows_aside
from vecfill.watching.memory import clean_up, warm_up
from vecfill.watching.patience import LONGEST_LOOK_S, Backoff, time_to_look, time_to_scan
from vecfill.watching.rows_aside import RowsAside
from vecfill.watching.said_once import SaidOnce
from vecfill.watching.service_manager import ServiceManager
from vecfill.watching.target_loop import _Polled
from vecfill.watching.watched import WatchEnded, WatchResult


def test_the_dearer_a_look_the_later_the_next():
    assert time_to_look(0.5, 2) == time_to_look(0.5, 20) == 0.5
    assert time_to_look(0.5, 200) == 5.0
    assert time_to_look(0.5, 10**9) == LONGEST_LOOK_S
    assert time_to_look(90.0, 10**9) == 90.0
    assert time_to_scan(0.0) == 10.0
    assert time_to_scan(30.0) == 600.0


class _Loaded:
    """A model that notes what it is given, and cannot encode it."""

    def __init__(self, way: str) -> None:
        self.way, self.texts = way, 0

    def encode(self, texts, max_batch_tokens):
        self.texts += len(texts)
        raise RuntimeError("out of memory")


def test_a_model_is_warmed_up_and_may_fail_at_it():
    """The first row that needs a vector meets the same error, and has an account."""
    for way, warmed in (("native", True), ("library", True), ("stand-in", False)):
        loaded = _Loaded(way)
        warm_up(loaded)
        assert bool(loaded.texts) is warmed


def test_what_a_fault_keeps_in_a_circle_is_freed():
    def fails():
        kept = _Loaded("native")
        try:
            raise RuntimeError
        except RuntimeError as error:
            kept.error = error  # whose traceback has this frame, and so it
            return weakref.ref(kept)

    kept = fails()
    clean_up()
    assert kept() is None


def test_waits_double_up_to_a_limit_and_are_random():
    backoff = Backoff(1.0, 8.0)
    waits = [backoff.failed() for _ in range(40)]
    assert all(low <= wait <= 2 * low for wait, low in zip(waits, (0.5, 1, 2, 4, *[4] * 36), strict=True))
    assert len(set(waits)) > 30
    assert backoff.failing_s > 0
    backoff.succeeded()
    assert (backoff.failing_s, backoff.failed() <= 1.0) == (0.0, True)


@pytest.fixture
def written():
    """Lines that pass a handler with the filter."""
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    handler.addFilter(SaidOnce())
    logger = logging.getLogger("vecfill.said_once_test")
    logger.addHandler(handler)
    yield logger, lines
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_a_wait_is_said_once_until_it_is_over(written):
    log, lines = written
    away = {"waits_for": "the server"}
    for target in ("a", "b"):
        with logged_with(target=target):
            for seconds in (1, 2, 3):
                log.warning("%s: away; trying again in %d s", target, seconds, extra=away)
                log.warning("%s: always the same", target)
    with logged_with(target="a"):
        log.warning("back", extra={"event": "resume"})
        log.warning("a: away again", extra=away)
        log.error("an error"), log.error("an error")
    assert lines == [
        *("a: away; trying again in 1 s", "a: always the same", "b: away; trying again in 1 s", "b: always the same"),
        *("back", "a: away again", "an error", "an error"),
    ]


def test_another_reason_to_be_rejected_is_said_and_attempts_do_not_repeat_their_lines(written):
    log, lines = written
    log.setLevel(logging.INFO)
    away = {"waits_for": "the server"}
    with logged_with(target="a"):
        log.info("5 rows to write"), log.info("5 rows to write")
        log.warning("closed; trying again in 1 s", extra=away)
        for seconds in (2, 4):
            log.info("5 rows to write")
            log.warning('FATAL:  password failed for "a"; trying again in %d s', seconds, extra=away)
    with logged_with(target="b"):
        log.info("5 rows to write"), log.info("5 rows to write")
    assert lines == [
        *("5 rows to write", "5 rows to write", "closed; trying again in 1 s", "5 rows to write"),
        *('FATAL:  password failed for "a"; trying again in 2 s', "5 rows to write", "5 rows to write"),
    ]


@pytest.mark.parametrize(
    ("error", "wrapped", "passes"),
    [
        ("DiskFull", (DatabaseError,), True),
        ("TooManyConnections", (DatabaseError,), True),
        ("ReadOnlySqlTransaction", (ConfigError, PartialRunError), True),
        ("UndefinedColumn", (ConfigError, PartialRunError), False),
    ],
)
def test_what_the_server_lacks_passes_and_what_the_target_lacks_does_not(error, wrapped, passes):
    """A full disk must not end the watch at night: whoever makes room finds it going on."""
    fault = getattr(psycopg.errors, error)()
    for kind in wrapped:
        fault, cause = kind("writing failed"), fault
        fault.__cause__ = cause
    assert faults.passes(fault, Database(""), first=False) is passes


def test_rows_are_set_aside_for_longer_each_time(monkeypatch):
    now = 0.0
    monkeypatch.setattr(rows_aside.time, "monotonic", lambda: now)
    aside = RowsAside()
    aside.add(["1", "2"])
    now = rows_aside.FIRST_RETRY_S + 1
    assert aside.now() == ()
    aside.add(["1"])
    now += rows_aside.FIRST_RETRY_S + 1
    assert (aside.now(), len(aside)) == (("1",), 2)
    now += 30 * rows_aside.LONGEST_RETRY_S
    assert (aside.now(), len(aside)) == ((), 0)
    monkeypatch.setattr(rows_aside, "MAX_QUARANTINED", 2)
    with pytest.raises(EncodeError, match="more than 2 rows failed"):
        aside.add("abc")


def test_the_service_manager_is_told_where_it_asks(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
        manager = ServiceManager(environ | {"WATCHDOG_PID": str(os.getpid())})
        manager.tell("READY=1", "STATUS=fine")
        assert listener.recv(100) == b"READY=1\nSTATUS=fine"
        assert manager.ping_every_s == 15.0
        assert ServiceManager(environ | {"WATCHDOG_PID": "1"}).ping_every_s is None
    manager.tell("STOPPING=1")  # nobody listens any more
    ServiceManager({}).tell("READY=1")


def test_who_asks_for_the_stop_shows_a_sign_of_life_but_not_the_thread_of_the_pauses():
    asked = []
    stop = _Polled(lambda: asked.append(threading.current_thread().name))
    assert not stop.is_set()
    pacing = threading.Thread(target=stop.is_set, name=PACING_THREAD)
    pacing.start()
    pacing.join()
    stop.set("a reason")
    assert (stop.is_set(), stop.reason, len(asked)) == (True, "a reason", 2)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([(0, None, 5)], 0),
        ([(143, None, 5), (143, "a fault", 0)], 143),
        ([(2, "a fault", 0), (0, None, 0)], 2),
        ([(2, "a fault", 0), (0, None, 3)], 1),
        ([(5, "no budget", 3), (1, "a fault", 0)], 1),
    ],
)
def test_the_exit_code_tells_the_stop_or_the_worst_fault(ends, code):
    targets = [WatchEnded(table="t", rows={"updated": rows}, error=error, exit_code=one) for one, error, rows in ends]
    result = WatchResult(targets=tuple(targets))
    assert (result.exit_code, result.as_dict()["exit_code"]) == (code, code)
