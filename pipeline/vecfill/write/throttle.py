"""Write limits: rows a second, and pauses while replication lags or a slot retains too much WAL."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from vecfill.errors import ConfigError
from vecfill.postgres.replication import Replication, replication
from vecfill.postgres.session import Session

log = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
"""Shortest time between two queries of the replication lag; one costs about a millisecond."""

MAX_CATCH_UP_S = 1.0
"""Longest delay of a batch that later batches may catch up with; a write aims at half a second."""

STOP_CHECK_S = 0.1
"""How often a wait checks for a stop request."""

_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3_600.0}
_BYTES = {"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


@dataclass(frozen=True, kw_only=True)
class WriteLimits:
    """Limits of a run; None for no limit.

    Attributes:
        max_rate: rows a second of all writers together.
        max_lag_s: seconds that the slowest standby may lag behind.
        max_lag_bytes: bytes of WAL that it may lag behind.
        max_slot_bytes: bytes of WAL that a replication slot may retain.
    """

    max_rate: float | None = None
    max_lag_s: float | None = None
    max_lag_bytes: int | None = None
    max_slot_bytes: int | None = None

    @classmethod
    def parse(
        cls, *, max_rate: float | None = None, max_replication_lag: str | None = None, max_slot_wal: str | None = None
    ) -> WriteLimits:
        """Parses the user's settings: a lag such as ``30s`` or ``256MB``, WAL such as ``10GB``, in PostgreSQL's units.

        Raises:
            ConfigError: a value cannot be parsed.
        """
        if max_rate is not None and max_rate <= 0:
            raise ConfigError(f"max_rate is {max_rate:g} rows/s: it must be above 0, or absent for no limit")
        lag_s = max_replication_lag and _amount(max_replication_lag, _SECONDS)
        lag_bytes = max_replication_lag and _amount(max_replication_lag, _BYTES)
        if max_replication_lag is not None and not (lag_s or lag_bytes):
            raise ConfigError(
                f"max_replication_lag is {max_replication_lag!r}: write a time such as 30s or 5min, or an amount of "
                "WAL such as 256MB"
            )
        kept = max_slot_wal and _amount(max_slot_wal, _BYTES)
        if max_slot_wal is not None and not kept:
            raise ConfigError(f"max_slot_wal is {max_slot_wal!r}: write an amount of WAL such as 512MB or 10GB")
        return cls(
            max_rate=max_rate,
            max_lag_s=lag_s or None,
            max_lag_bytes=int(lag_bytes) if lag_bytes else None,
            max_slot_bytes=int(kept) if kept else None,
        )

    @property
    def watches_standbys(self) -> bool:
        """Whether a limit depends on the lag of standbys."""
        return self.max_lag_s is not None or self.max_lag_bytes is not None

    @property
    def may_wait(self) -> bool:
        """Whether a limit may make a write wait."""
        return self.max_rate is not None or self.watches_replication

    @property
    def watches_replication(self) -> bool:
        """Whether a limit requires queries of the replication state."""
        return self.watches_standbys or self.max_slot_bytes is not None

    def per_writer(self, writers: int) -> WriteLimits:
        """Returns the limits of each of ``writers`` writers: they share the rate; the lag limits apply to each."""
        return self if self.max_rate is None else replace(self, max_rate=self.max_rate / writers)


NO_WRITE_LIMITS = WriteLimits()


def _amount(text: str, units: dict[str, float] | dict[str, int]) -> float | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text.strip())
    return float(match[1]) * units[match[2]] if match and match[2] in units else None


def _never() -> bool:
    return False


@dataclass
class Throttle:
    """Delays the batches of one writer so that it keeps its limits.

    Attributes:
        write_limits: the limits.
        stopped: whether the run should stop; checked while waiting.
        say: logs the start and the end of a pause.

    ``_due`` is when all rows allowed so far are due. ``_mark`` is a WAL position that the standbys must reach, and the
    time when the WAL ended there: the server's own lag does not grow while a replay is paused.
    """

    write_limits: WriteLimits = NO_WRITE_LIMITS
    stopped: Callable[[], bool] = _never
    say: Callable[[str], None] = log.warning
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
        self.say(f"pausing: {excess}")
        while excess and self._sleep_until(time.monotonic() + CHECK_EVERY_S):
            excess = self._excess(session)
        self.say(f"{'stopped' if excess else 'continuing'} after a pause of {time.monotonic() - started:.0f} s")
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


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MB"
