"""Rows of a target without a ledger that failed: they are passed over for a while, which doubles each time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from vecfill.backfill.tally import MAX_QUARANTINED
from vecfill.errors import EncodeError

FIRST_RETRY_S, LONGEST_RETRY_S = 60.0, 3_600.0


@dataclass(frozen=True)
class _Aside:
    attempts: int
    until: float


class RowsAside:
    """Keys, as text from the server, of rows that are not tried for now."""

    def __init__(self) -> None:
        self._rows: dict[str, _Aside] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, keys: Iterable[str]) -> None:
        """Sets rows aside that have failed.

        Raises:
            EncodeError: so many rows failed that they share a cause.
        """
        now = time.monotonic()
        for key in keys:
            attempts = self._rows[key].attempts if key in self._rows else 0
            wait = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempts, 16))
            self._rows[key] = _Aside(attempts + 1, now + wait)
        if len(self._rows) > MAX_QUARANTINED:
            raise EncodeError(f"more than {MAX_QUARANTINED} rows failed: so many share a cause; see the log")

    def now(self) -> tuple[str, ...]:
        """Returns the keys to pass over; a row that succeeded, or is gone, is forgotten a day after it was due."""
        now = time.monotonic()
        self._rows = {key: row for key, row in self._rows.items() if now - row.until < 24 * LONGEST_RETRY_S}
        return tuple(key for key, row in self._rows.items() if row.until > now)
