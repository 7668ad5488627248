"""A thread that works beside a block of the program, and ends with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from vecfill.log_fields import in_context

log = logging.getLogger(__name__)


@contextmanager
def in_background(name: str, work: Callable[[], None], end: Callable[[], None]) -> Iterator[None]:
    """Runs ``work`` in a thread during the body, with the caller's log fields, and waits for its end.

    Args:
        name: of the thread.
        work: returns soon after ``end`` was called.
        end: called once, however the body ends.

    Raises:
        An error of ``work``, if the body has none of its own. It is logged when it occurs: the body may take hours.
    """
    done: Future[None] = Future()
    thread = threading.Thread(target=in_context(_do), args=(name, work, done), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end()
        thread.join()
    done.result()


def _do(name: str, work: Callable[[], None], done: Future[None]) -> None:
    try:
        work()
        done.set_result(None)
    except BaseException as error:
        log.error("thread %r failed: %r", name, error)
        done.set_exception(error)
