"""How many requests are in flight: one more after each window of successes, half at each sign of overload."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from vecfill.interruptible import Stopped

START = 2
"""Requests in flight at the start: no burst for an unknown API."""

SPREAD = 0.1
"""Share of a pause over which the paused requests start again, so that they do not come as one burst."""

POLL_S = 0.5
"""Seconds between two checks, in a wait, of whether the run is to stop: an API may ask to wait for minutes."""

ANSWER_S = 10.0
"""Longest wait after a stop for the answer to a request in flight; most APIs answer within a second."""

T = TypeVar("T")


async def sleep(seconds: float, stopped: Stopped) -> None:
    """Waits that long, or until the run is to stop."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not stopped():
        await asyncio.sleep(min(left, POLL_S))


async def answered(request: Coroutine[Any, Any, T], stopped: Stopped) -> T:
    """Awaits the answer to a request, after a stop for ``ANSWER_S`` seconds at most: it may be paid for.

    Raises:
        TimeoutError: it did not come.
    """
    task = asyncio.ensure_future(request)
    try:
        while not (await asyncio.wait((task,), timeout=POLL_S))[0] and not stopped():
            pass
        return await asyncio.wait_for(task, ANSWER_S)
    finally:
        task.cancel()


class Pace:
    """Additive increase, multiplicative decrease (Chiu and Jain, 1989), and pauses for all requests.

    Lives in one event loop.

    Attributes:
        limit: requests in flight at most, now.
    """

    def __init__(self, max_concurrency: int, stopped: Stopped = lambda: False) -> None:
        self.limit = min(START, max_concurrency)
        self._max_concurrency, self._stopped = max_concurrency, stopped
        self._in_flight = self._successes = 0
        self._filled = False
        self._cut_at = self._resume_at = 0.0
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Waits for a free slot and the end of a pause; yields the time at which the request may be sent."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._in_flight < self.limit)
            self._in_flight += 1
            self._filled = self._filled or self._in_flight >= self.limit
        try:
            yield await self._resumed()
        finally:
            async with self._freed:
                self._in_flight -= 1
                self._freed.notify_all()

    def succeeded(self) -> None:
        """Counts a success; a whole window of them, with all slots in use, adds a slot."""
        self._successes += 1
        if self._successes >= self.limit and self._filled:
            self.limit, self._successes, self._filled = min(self._max_concurrency, self.limit + 1), 0, False

    def overloaded(self, sent_at: float) -> None:
        """Halves the slots, once for all requests that were sent before the last cut."""
        self._successes = 0
        if sent_at >= self._cut_at:
            self.limit, self._cut_at = max(1, self.limit // 2), time.monotonic()

    def pause(self, seconds: float) -> float:
        """Sends nothing for that long; returns the seconds by which this lengthens the pause."""
        before, self._resume_at = self._resume_at, max(self._resume_at, time.monotonic() + seconds)
        return self._resume_at - max(before, time.monotonic())

    async def _resumed(self) -> float:
        started = time.monotonic()
        while (left := self._resume_at - time.monotonic()) > 0 and not self._stopped():
            await sleep(left, self._stopped)
        waited = time.monotonic() - started
        await sleep(random.uniform(0, SPREAD) * waited, self._stopped)  # noqa: S311
        return time.monotonic()
