"""SIGINT, SIGTERM, SIGHUP: the first requests a clean end, the second ends at once, whatever stopped the run before."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from vecfill.job import Stop
from vecfill.termination import SIGNALLED, terminate

log = logging.getLogger(__name__)

SIGNALS = {signal.SIGINT: "SIGINT", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
"""The last one comes when a terminal or an SSH session ends."""


@contextmanager
def stopping(stop: Stop, max_seconds: float | None = None, *, signals: bool) -> Iterator[None]:
    """Sets ``stop`` when the time is over, and on a signal if ``signals``.

    A second signal ends the process at once: open transactions roll back, so nothing half-written remains. Outside
    the main thread it installs no handlers.
    """
    timer = threading.Timer(max_seconds, stop.set, ["max-seconds"]) if max_seconds else None
    main = signals and threading.current_thread() is threading.main_thread()
    handle = _handler(stop)
    previous = {number: signal.signal(number, handle) for number in SIGNALS if _is_ours(number)} if main else {}
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def default_handlers() -> Iterator[None]:
    """Lets a signal raise ``KeyboardInterrupt``, for a question on the terminal: nothing is in flight."""
    usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: terminate}
    previous = {number: signal.signal(number, handler) for number, handler in usual.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _is_ours(number: signal.Signals) -> bool:
    """Whether a handler may be installed: ``nohup`` asks to ignore SIGHUP."""
    return number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN


def _handler(stop: Stop) -> Callable[[int, FrameType | None], None]:
    signalled = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal signalled
        if signalled:
            os._exit(SIGNALLED + number)
        signalled = True
        stop.set(SIGNALS[signal.Signals(number)], override=True)
        log.info("stopping: committing batches in flight (Ctrl-C again aborts)", extra={"event": "stopping"})

    return handle


def exit_code(reason: str | None) -> int | None:
    """The exit code of a run that a signal stopped; None for any other reason."""
    return next((SIGNALLED + number for number, name in SIGNALS.items() if name == reason), None)
