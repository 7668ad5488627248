"""How a run holds back: rows a second, and pauses while replication lags or slots keep too much WAL."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from vecfill.config.limits import NO_WRITE_LIMITS, WriteLimits
from vecfill.postgres.replication import Replication, replication
from vecfill.postgres.session import Session

log = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
"""Shortest time between two looks at the replication: one costs about a millisecond."""

SAVED_S = 1.0
"""Longest time between two batches that the second makes up for: a write aims at half a second."""

NAP_S = 0.1
"""How soon a wait notices that the run is to stop."""


def _never() -> bool:
    return False


@dataclass
class Throttle:
    """Lets one writer's batches through when it is time.

    Attributes:
        write_limits: what to keep to.
        stopped: whether the run is to stop; asked while rows wait.
        say: told of pauses.

    ``_due`` is when the rows admitted so far are all due; ``_mark`` a place in the WAL that the standbys are to reach,
    and when the WAL ended there: a server's own measure of the lag does not grow while a replay stands.
    """

    write_limits: WriteLimits = NO_WRITE_LIMITS
    stopped: Callable[[], bool] = _never
    say: Callable[[str], None] = log.warning
    _due: float = 0.0
    _checked: float = float("-inf")
    _mark: tuple[int, float] | None = None
    _over: bool = False

    def most(self, rows: int) -> int:
        """The rows of a batch that would have ``rows``: at most a second's worth, so that the rate is an even one."""
        rate = self.write_limits.max_rate
        return rows if rate is None else max(1, min(rows, int(rate)))

    def admit(self, rows: int, session: Session) -> bool:
        """Waits until ``rows`` rows may be written.

        Returns:
            False where the run was to stop before that: they are not to be written.
        """
        return self._paced(rows) and self._caught_up(session)

    def _paced(self, rows: int) -> bool:
        """Rows are due a moment after one another: at no time were there more since the start than the rate allows.

        The time that the last write took counts; a longer one without rows is not saved up for a burst.
        """
        if self.write_limits.max_rate is None:
            return True
        now = time.monotonic()
        self._due = (self._due if now - self._due < SAVED_S else now) + rows / self.write_limits.max_rate
        return self._slept_until(self._due)

    def _caught_up(self, session: Session) -> bool:
        if not self.write_limits.watches_replication or time.monotonic() - self._checked < CHECK_EVERY_S:
            return not self._over
        started, excess = time.monotonic(), self._excess(session)
        if excess is None:
            return True
        self.say(f"pausing: {excess}")
        while excess and self._slept_until(time.monotonic() + CHECK_EVERY_S):
            excess = self._excess(session)
        self.say(f"{'stopped' if excess else 'going on'} after a pause of {time.monotonic() - started:.0f} s")
        return excess is None

    def _excess(self, session: Session) -> str | None:
        now = session.run(replication)
        self._checked = time.monotonic()
        excess = self._lag(now) or self._kept(now)
        self._over = excess is not None
        return excess

    def _lag(self, now: Replication) -> str | None:
        if now.replayed is None:
            return None
        behind, limits = now.position - now.replayed, self.write_limits
        if limits.max_lag_bytes is not None and behind > limits.max_lag_bytes:
            return f"a standby is {_mebibytes(behind)} behind, and the limit is {_mebibytes(limits.max_lag_bytes)}"
        seconds = max(now.lag_s, self._standing(now))
        if limits.max_lag_s is not None and seconds > limits.max_lag_s:
            return f"a standby is {seconds:.1f} s behind, and the limit is {limits.max_lag_s:g} s"
        return None

    def _standing(self, now: Replication) -> float:
        """Seconds for which a standby has not reached where the WAL once ended."""
        if self._mark is None or (now.replayed or 0) >= self._mark[0]:
            self._mark = now.position, self._checked
        return self._checked - self._mark[1]

    def _kept(self, now: Replication) -> str | None:
        limit = self.write_limits.max_slot_bytes
        if limit is None or now.kept_bytes <= limit:
            return None
        return f"slot {now.slot} keeps {_mebibytes(now.kept_bytes)} of WAL, and the limit is {_mebibytes(limit)}"

    def _slept_until(self, due: float) -> bool:
        """Sleeps and says whether the time came before a stop."""
        while (left := due - time.monotonic()) > 0:
            if self.stopped():
                return False
            time.sleep(min(left, NAP_S))
        return True


def _mebibytes(count: float) -> str:
    return f"{count / (1 << 20):,.1f} MB"
