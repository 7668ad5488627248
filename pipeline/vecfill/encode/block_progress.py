"""The work of an encode stage as the run sees it: rows, told while a block is encoded, and seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

TELL_EVERY_S = 0.25
"""Shortest time between two reports of a block: on Ray each is a message."""

Advance = Callable[[float], None]
"""Takes the share of the given texts, in [0, 1], that was encoded since the last call; callable from any thread."""


def no_progress(_: float) -> None:
    """Reports nothing."""


class BlockProgress:
    """Counts the rows of one block. Thread-safe."""

    def __init__(self, rows: int, tell: Callable[[int], None]) -> None:
        """Takes the block's rows, and the function that adds up the rows of all blocks."""
        self._rows, self._tell = rows, tell
        self._share, self._told, self._at = 0.0, 0, time.monotonic()
        self._lock = threading.Lock()

    def advance(self, share: float) -> None:
        """Adds a share of the block. Texts that are tried again never count more than the block has."""
        with self._lock:
            self._share = min(1.0, self._share + share)
            if time.monotonic() - self._at >= TELL_EVERY_S:
                self._up_to(int(self._rows * self._share))

    def end(self) -> None:
        """The block is encoded: tells the rows not told so far."""
        with self._lock:
            self._up_to(self._rows)

    def _up_to(self, rows: int) -> None:
        if rows > self._told:
            self._tell(rows - self._told)
        self._told, self._at = rows, time.monotonic()


class Busy:
    """Working seconds of a stage whose calls overlap: no second is counted twice."""

    def __init__(self) -> None:
        self._until = 0.0
        self._lock = threading.Lock()

    def since(self, started: float) -> float:
        """Seconds from ``started``, or from the end of the last call if that was later, until now."""
        with self._lock:
            started, self._until = max(started, self._until), time.perf_counter()
            return self._until - started
