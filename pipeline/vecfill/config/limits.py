"""What spares the server: limits of the rate, and reasons to pause."""

from __future__ import annotations

import re

from pydantic import Field

from vecfill.config.spec import Spec, option, spec
from vecfill.errors import ConfigError

_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3_600.0}
_BYTES = {"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


@spec
class WriteLimits(Spec):
    """Limits of the writers; None for no limit. Units are PostgreSQL's.

    Attributes:
        max_rate: rows per second, of all writers together.
        max_replication_lag: how far the slowest standby may be behind: a time (``30s``) or WAL (``256MB``).
        max_slot_wal: how much WAL a replication slot may keep (``10GB``).
        pause_file: path of a file on the machine of the command; the run pauses while it exists.
        pause_query: a SELECT that returns one boolean; the run pauses while it is true. NULL and no row are not.
        max_latency: how long a probe of the server may take (``50ms``) before writers slow down.
        pause: pause whatever else allows; only ``vecfill status --set pause=false`` ends that.
    """

    max_rate: float | None = option("Write at most X rows per second.", default=None, gt=0)
    max_replication_lag: str | None = option(
        "Pause while a standby lags by more than this: a time such as 30s, or WAL such as 256MB.", default=None
    )
    max_slot_wal: str | None = option(
        "Pause while a replication slot retains more WAL than this, such as 10GB.", default=None
    )

    pause_file: str | None = option(
        "Pause while this file exists, on the machine of this command.", default=None, metavar="FILE"
    )
    pause_query: str | None = option(
        "Pause while this SELECT returns true, such as one for office hours or load.", default=None, metavar="SQL"
    )
    max_latency: str | None = option(
        "Write in smaller batches with pauses while a probe of the server takes longer than this, such as 50ms.",
        default=None,
    )
    pause: bool = Field(default=False)

    def __post_init__(self) -> None:
        lag, kept = self.max_replication_lag, self.max_slot_wal
        if lag is not None and not (self.max_lag_s or self.max_lag_bytes):
            raise ConfigError(
                f"--max-replication-lag {lag!r}: write a time such as 30s or 5min, or an amount of WAL such as 256MB"
            )
        if kept is not None and not self.max_slot_bytes:
            raise ConfigError(f"--max-slot-wal {kept!r}: write an amount of WAL such as 512MB or 10GB")

        if self.max_latency is not None and not self.max_latency_s:
            raise ConfigError(f"--max-latency {self.max_latency!r}: write a time such as 50ms or 1s")

    @property
    def max_latency_s(self) -> float | None:
        """Seconds that a probe may take."""
        return _amount(self.max_latency, _SECONDS)

    @property
    def max_lag_s(self) -> float | None:
        """Seconds that the slowest standby may be behind; None if the limit is not a time."""
        return _amount(self.max_replication_lag, _SECONDS)

    @property
    def max_lag_bytes(self) -> float | None:
        """Bytes of WAL that it may be behind; None if the limit is not an amount of WAL."""
        return _amount(self.max_replication_lag, _BYTES)

    @property
    def max_slot_bytes(self) -> float | None:
        """Bytes of WAL that a replication slot may keep."""
        return _amount(self.max_slot_wal, _BYTES)

    @property
    def watches_standbys(self) -> bool:
        """Whether a limit depends on how far standbys are behind."""
        return self.max_replication_lag is not None

    @property
    def watches_replication(self) -> bool:
        """Whether the writers must query the server's replication state."""
        return self.watches_standbys or self.max_slot_wal is not None

    @property
    def may_wait(self) -> bool:
        """Whether a write may have to wait."""
        return self != NO_WRITE_LIMITS


NO_WRITE_LIMITS = WriteLimits()


def _amount(text: str | None, units: dict[str, float] | dict[str, int]) -> float | None:
    """The amount in base units; None without a text, or if its unit is not one of ``units``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text.strip()) if text else None
    return float(match[1]) * units[match[2]] if match and match[2] in units else None
