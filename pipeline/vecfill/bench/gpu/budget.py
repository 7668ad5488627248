"""Time that a check may take, divided among its parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Budget:
    """Seconds from its making on.

    Attributes:
        seconds: of the whole.
        left_out: what was not done for lack of time or of a package, one line each.
    """

    seconds: float
    left_out: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Seconds that have passed."""
        return time.monotonic() - self._started

    def allows(self, share: float, what: str) -> bool:
        """Whether less than a share of the time has passed; else notes what is left out."""
        if self.spent < share * self.seconds:
            return True
        self.left_out.append(f"{what}: no time left")
        return False


def best_seconds(work: Callable[[], object], seconds: float, *, least: int = 2) -> float:
    """Returns the best time of work that is repeated for some seconds, and at least ``least`` times."""
    best, until, done = float("inf"), time.perf_counter() + seconds, 0
    while done < least or time.perf_counter() < until:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
        done += 1
    return best
