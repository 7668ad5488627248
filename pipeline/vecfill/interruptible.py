"""Work that a stop may interrupt: a thread of its own does it, and the caller leaves it once the run is to stop.

Connecting, a query, a command or the load of a model may take minutes, and most of them cannot be interrupted from
outside.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from vecfill.errors import StoppedError

T = TypeVar("T")

POLL_S = 0.1
"""Seconds between two checks of whether the run is to stop."""

Stopped = Callable[[], bool]

_left: list[threading.Thread] = []


def interruptible(
    work: Callable[[], T],
    stopped: Stopped,
    *,
    discard: Callable[[T], None] = lambda _: None,
    interrupt: Callable[[threading.Thread], None] = lambda _: None,
) -> T:
    """Returns the result of ``work``, or leaves it to its thread once ``stopped`` is true.

    Args:
        work: called in a daemon thread, which may outlive this call.
        stopped: whether the run should stop; not asked within the first ``POLL_S`` seconds.
        discard: receives a result that comes too late.
        interrupt: called with the thread that is left, to end its work.

    Raises:
        StoppedError: the run is to stop, and ``work`` is not finished.
    """
    future: Future[T] = Future()
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(_do, work, future, discard), name="interruptible", daemon=True
    )
    thread.start()
    try:
        while not wait((future,), POLL_S).done:
            if stopped():
                raise StoppedError("interrupted by the stop")
    except BaseException:  # also Ctrl-C, if the program handles no signals
        if future.cancel():
            _left.append(thread)
            interrupt(thread)
        elif future.exception() is None:
            discard(future.result())
        raise
    return future.result()


def is_work_left() -> bool:
    """Whether a thread still does work that nobody waits for: the interpreter may crash if it ends below it."""
    return any(thread.is_alive() for thread in _left)


def _do(work: Callable[[], T], future: Future[T], discard: Callable[[T], None]) -> None:
    result: T
    error: BaseException | None = None
    try:
        result = work()
    except BaseException as raised:
        error = raised
    if not future.set_running_or_notify_cancel():
        if error is None:
            discard(result)
    elif error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
