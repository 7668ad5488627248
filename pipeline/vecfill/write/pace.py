"""How many rows a write batch holds: it follows the clock, so that no row stays locked for long. Pure."""

from __future__ import annotations

from dataclasses import dataclass

START_ROWS = 2_000
"""The best of 500, 2,000 and 10,000 without an index (12k, 22k, 17k rows/s at 384 dimensions)."""

INDEXED_ROWS = 100
"""Where a vector index takes each row in: 500 rows took 1.2 s there at 384 dimensions, 2,000 took 4.3 s."""

MIN_ROWS, MAX_ROWS = 20, 8_000
AIM_S = 0.5
"""Longest time that a batch should hold its row locks. An HNSW index makes 2,000 rows take 4.3 s."""


@dataclass
class Pace:
    """The size of the next batch, in rows."""

    rows: int = START_ROWS

    def took(self, rows: int, seconds: float) -> None:
        """Learns from a batch: shrinks at once when it was slow, grows by a quarter when a full one was quick."""
        if seconds > AIM_S:
            self.rows = max(MIN_ROWS, int(rows * AIM_S / seconds))
        elif seconds < AIM_S / 2 and rows >= self.rows:
            self.rows = min(MAX_ROWS, self.rows + self.rows // 4)

    def halve(self, rows: int) -> None:
        """Learns that a batch of ``rows`` rows ran into our own time-out."""
        self.rows = max(MIN_ROWS, rows // 2)
