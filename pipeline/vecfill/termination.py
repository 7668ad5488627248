"""SIGTERM where no run has taken it over, and either signal once a command has ended.

A run has handlers of its own (``engine.signals``).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

SIGNALLED = 128
"""Exit code of a command that a signal ended: this plus the signal's number, by the shell's convention."""


class Terminated(KeyboardInterrupt):
    """SIGTERM. Ends a command as Ctrl-C does: statements are cancelled, connections closed, the end reported."""


def stop_code(stop: BaseException) -> int:
    """Returns the exit code of a command that this stop ended."""
    return SIGNALLED + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    """Handles SIGTERM. By default the process ends without a word, and the server goes on with its statement."""
    raise Terminated


def raise_on_sigterm() -> None:
    """Has SIGTERM raise ``Terminated`` in the main thread."""
    _handle(terminate, signal.SIGTERM)


def keep_code(code: int) -> None:
    """Has a signal end the process at once with this code: the command has ended, and nothing is left to stop.

    The interpreter takes a while to end; a signal meanwhile would give another code than the printed result has.
    """
    _handle(lambda _number, _frame: os._exit(code), signal.SIGINT, signal.SIGTERM)


def _handle(handler: Callable[[int, FrameType | None], Any], *numbers: signal.Signals) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            signal.signal(number, handler)
