"""How long to wait: between looks, after a fault, and until a fault counts as lasting. Pure but for the clock."""

from __future__ import annotations

import random
import time

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
"""Bounds of the wait after a fault. It doubles each time, and is random: many workers must not come back at once."""

LASTING_S = 60.0
"""A fault of the target (a column that is gone, a model that fails) ends its watch once it has lasted so long: a
migration takes a moment."""

LOOK_PAGES = 20
"""Pages that one look may read. After a more expensive one, the next comes so much later."""

LONGEST_LOOK_S = 60.0
"""Longest time between two looks, however expensive they are."""

SCAN_SHARE = 0.05
"""Most of the time that a watch spends on scanning a table for work."""

SCAN_EVERY_S = 10.0
"""Shortest time between two scans of a table."""


def time_to_look(interval: float, pages: int) -> float:
    """Returns the seconds from a look to the next: the interval, or more if it read more than ``LOOK_PAGES``."""
    return max(interval, min(LONGEST_LOOK_S, interval * pages / LOOK_PAGES))


def time_to_scan(seconds: float) -> float:
    """Returns the seconds from a scan that took ``seconds`` to the next."""
    return max(SCAN_EVERY_S, seconds / SCAN_SHARE)


class Backoff:
    """The waits of a row of attempts that fail.

    Attributes:
        failing_since: time of the first failure, by ``time.monotonic``; None while attempts succeed.
    """

    def __init__(self, first_s: float = FIRST_WAIT_S, longest_s: float = LONGEST_WAIT_S) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._failures = 0
        self.failing_since: float | None = None

    def failed(self) -> float:
        """Takes a failure; returns the seconds to wait before the next attempt."""
        if self.failing_since is None:
            self.failing_since = time.monotonic()
        longest = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return random.uniform(longest / 2, longest)  # noqa: S311

    def succeeded(self) -> None:
        """Takes a success."""
        self._failures, self.failing_since = 0, None

    @property
    def failing_s(self) -> float:
        """Seconds since the first failure; 0 while attempts succeed."""
        return 0.0 if self.failing_since is None else time.monotonic() - self.failing_since
