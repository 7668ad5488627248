"""Write limits: rows per second, a share of the time, and pauses: of the whole run, and for replication."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field

from vecfill.config.limits import NO_WRITE_LIMITS, WriteLimits
from vecfill.job import Hold, Worker
from vecfill.postgres.replication import Replication, replication
from vecfill.postgres.session import Session

log = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
"""Shortest time between two queries of the replication lag; one costs about a millisecond."""

MAX_CATCH_UP_S = 1.0
"""Longest delay of a batch that later batches may catch up with; a write aims at half a second."""

SMALLEST = 1 / 8
"""Share of a whole batch below which none shrinks: its start and commit cost the server as much as the rows."""

MAX_REST_S = 30.0
"""Longest rest between two batches of a writer that may write in a share of the time."""

STOP_CHECK_S = 0.1
"""How often a wait checks for a stop request."""


@dataclass
class Throttle:
    """Delays the batches of one writer so that it keeps its limits.

    Attributes:
        write_limits: the limits of all writers together.
        worker: its peers share the rate; it says whether to stop, and what holds the run back.

    ``_due`` is when all rows allowed so far are due, ``_wrote`` how long the last batch took, and when it ended.
    ``_mark`` is a WAL position that the standbys must reach, and the time when the WAL ended there: the server's own
    lag does not grow while a replay is paused.
    """

    write_limits: WriteLimits = NO_WRITE_LIMITS
    worker: Worker = field(default_factory=Worker)
    _due: float = 0.0
    _wrote: tuple[float, float] = (0.0, 0.0)
    _checked: float = float("-inf")
    _mark: tuple[int, float] | None = None
    _over: bool = False

    def max_batch_rows(self, rows: int) -> int:
        """Limits a batch of ``rows`` rows to one second's worth, for an even rate, and to the share of the time."""
        hold = self.worker.hold()
        return max(1, int(min(rows * max(SMALLEST, hold.share), self._rate(hold))))

    def wait_until_allowed(self, rows: int, session: Session) -> bool:
        """Waits until ``rows`` rows may be written.

        Returns:
            False if the run was asked to stop meanwhile: do not write them.
        """
        return (
            self._rest()
            and self._wait_for_rate(rows)
            and self._wait_for_replication(session)
            and self._wait_while_paused()
        )

    def wrote(self, seconds: float) -> None:
        """Notes how long a batch took: the writer then rests, so that it writes in its share of the time."""
        self._wrote = seconds, time.monotonic()

    def _rest(self) -> bool:
        seconds, ended = self._wrote
        while (left := ended + min(MAX_REST_S, seconds * (1 / self.worker.hold().share - 1)) - time.monotonic()) > 0:
            if not self._sleep(left):
                return False
        return True

    def _rate(self, hold: Hold) -> float:
        """Rows per second of this writer."""
        of_all = self.write_limits.max_rate if hold.max_rate is None else hold.max_rate
        return (of_all or math.inf) / self.worker.peers

    def _wait_for_rate(self, rows: int) -> bool:
        """Schedules rows at the rate, so that the total since the start never exceeds it.

        The duration of the last write counts as waiting time; a longer idle time does not allow a burst. A new rate
        counts from where the wait began.
        """
        now = time.monotonic()
        start = self._due if now - self._due < MAX_CATCH_UP_S else now
        while (left := start + rows / self._rate(self.worker.hold()) - time.monotonic()) > 0:
            if not self._sleep(left):
                return False
        self._due = start + rows / self._rate(self.worker.hold())
        return True

    def _wait_while_paused(self) -> bool:
        while self.worker.hold().paused:
            if not self._sleep(STOP_CHECK_S):
                return False
        return True

    def _wait_for_replication(self, session: Session) -> bool:
        if not self.write_limits.watches_replication or time.monotonic() - self._checked < CHECK_EVERY_S:
            return not self._over
        started, excess = time.monotonic(), self._excess(session)
        if excess is None:
            return True
        log.warning(
            "pausing: %s", excess, extra={"event": "pause", "throttle": "replication", "waits_for": "replication"}
        )
        while excess and self._sleep_until(time.monotonic() + CHECK_EVERY_S):
            excess = self._excess(session)
        seconds = time.monotonic() - started
        log.warning(
            "%s after a pause of %.0f s",
            *("stopped" if excess else "continuing", seconds),
            extra={"event": "resume", "throttle": "replication", "seconds": seconds},
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
            if not self._sleep(left):
                return False
        return True

    def _sleep(self, left: float) -> bool:
        """Sleeps for a moment of at most ``left`` seconds; returns False if the run was asked to stop before that."""
        if self.worker.stopped():
            return False
        time.sleep(min(left, STOP_CHECK_S))
        return True


def _mebibytes(count: float) -> str:
    return f"{count / (1 << 20):,.1f} MB"
