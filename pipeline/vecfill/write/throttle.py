"""Write limits: rows per second, and pauses while replication lags or a slot retains too much WAL."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from vecfill.config.limits import NO_WRITE_LIMITS, WriteLimits
from vecfill.job import Worker
from vecfill.postgres.replication import Replication, replication
from vecfill.postgres.session import Session

log = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
"""Shortest time between two queries of the replication lag; one costs about a millisecond."""

MAX_CATCH_UP_S = 1.0
"""Longest delay of a batch that later batches may catch up with; a write aims at half a second."""

STOP_CHECK_S = 0.1
"""How often a wait checks for a stop request."""


@dataclass
class Throttle:
    """Delays the batches of one writer so that it keeps its limits.

    Attributes:
        write_limits: the limits.
        stopped: whether the run should stop; checked while waiting.

    ``_due`` is when all rows allowed so far are due. ``_mark`` is a WAL position that the standbys must reach, and the
    time when the WAL ended there: the server's own lag does not grow while a replay is paused.
    """

    write_limits: WriteLimits = NO_WRITE_LIMITS
    stopped: Callable[[], bool] = Worker.stopped
    _due: float = 0.0
    _checked: float = float("-inf")
    _mark: tuple[int, float] | None = None
    _over: bool = False

    def max_batch_rows(self, rows: int) -> int:
        """Limits a batch of ``rows`` rows to one second's worth, for an even rate."""
        rate = self.write_limits.max_rate
        return rows if rate is None else max(1, min(rows, int(rate)))

    def wait_until_allowed(self, rows: int, session: Session) -> bool:
        """Waits until ``rows`` rows may be written.

        Returns:
            False if the run was asked to stop meanwhile: do not write them.
        """
        return self._wait_for_rate(rows) and self._wait_for_replication(session)

    def _wait_for_rate(self, rows: int) -> bool:
        """Schedules rows at the rate, so that the total since the start never exceeds it.

        The duration of the last write counts as waiting time; a longer idle time does not allow a burst.
        """
        if self.write_limits.max_rate is None:
            return True
        now = time.monotonic()
        self._due = (self._due if now - self._due < MAX_CATCH_UP_S else now) + rows / self.write_limits.max_rate
        return self._sleep_until(self._due)

    def _wait_for_replication(self, session: Session) -> bool:
        if not self.write_limits.watches_replication or time.monotonic() - self._checked < CHECK_EVERY_S:
            return not self._over
        started, excess = time.monotonic(), self._excess(session)
        if excess is None:
            return True
        log.warning("pausing: %s", excess, extra={"event": "pause", "waits_for": "replication"})
        while excess and self._sleep_until(time.monotonic() + CHECK_EVERY_S):
            excess = self._excess(session)
        seconds = time.monotonic() - started
        log.warning(
            "%s after a pause of %.0f s",
            *("stopped" if excess else "continuing", seconds),
            extra={"event": "resume", "seconds": seconds},
        )
        return excess is None

    def _excess(self, session: Session) -> str | None:
        now = session.run(replication)
        self._checked = time.monotonic()
        excess = self._lag_excess(now) or self._slot_excess(now)
        self._over = excess is not None
        return excess

    def _lag_excess(self, now: Replication) -> str | None:
        if now.replayed is None:
            return None
        behind, limits = now.position - now.replayed, self.write_limits
        if limits.max_lag_bytes is not None and behind > limits.max_lag_bytes:
            return f"a standby is {_mebibytes(behind)} behind, and the limit is {_mebibytes(limits.max_lag_bytes)}"
        seconds = max(now.lag_s, self._stalled_s(now))
        if limits.max_lag_s is not None and seconds > limits.max_lag_s:
            return f"a standby is {seconds:.1f} s behind, and the limit is {limits.max_lag_s:g} s"
        return None

    def _stalled_s(self, now: Replication) -> float:
        """Seconds since the WAL ended at a position that a standby has not reached yet."""
        if self._mark is None or (now.replayed or 0) >= self._mark[0]:
            self._mark = now.position, self._checked
        return self._checked - self._mark[1]

    def _slot_excess(self, now: Replication) -> str | None:
        limit = self.write_limits.max_slot_bytes
        if limit is None or now.kept_bytes <= limit:
            return None
        return f"slot {now.slot} keeps {_mebibytes(now.kept_bytes)} of WAL, and the limit is {_mebibytes(limit)}"

    def _sleep_until(self, due: float) -> bool:
        """Sleeps; returns False if the run was asked to stop before ``due``."""
        while (left := due - time.monotonic()) > 0:
            if self.stopped():
                return False
            time.sleep(min(left, STOP_CHECK_S))
        return True


def _mebibytes(count: float) -> str:
    return f"{count / (1 << 20):,.1f} MB"
