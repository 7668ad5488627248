"""How many rows a write batch holds: it follows the clock, so that no row stays locked for long. Pure.

It is also bounded by what the server stages without its disk.
"""

from __future__ import annotations

from dataclasses import dataclass

START_ROWS = 2_000
"""The best of 500, 2,000 and 10,000 without an index (12k, 22k, 17k rows/s at 384 dimensions)."""

INDEXED_ROWS = 100
"""Where a vector index takes each row in: 500 rows took 1.2 s there at 384 dimensions, 2,000 took 4.3 s."""

MIN_ROWS, MAX_ROWS = 20, 8_000
AIM_LOCK_S = 0.5
"""Longest time that a batch should hold its row locks. An HNSW index makes 2,000 rows take 4.3 s."""

TABLE_BYTES, ARRAYS_BYTES = 7 << 20, 3 << 20
"""Of a stage that stays in the server's memory: a temporary table in ``temp_buffers`` (8 MB unless set otherwise),
arrays in ``work_mem`` (4 MB). At 384 dimensions tables of 4,000 and 8,000 rows went at 56k and 43k rows/s, arrays of
2,000 and 4,000 at 40k and 31k."""

_ROW_OVERHEAD_BYTES = 64
"""Of a staged row beside its vector: position, key, hash, the tuple's header."""


def max_rows_in_memory(dim: int, kind: str, *, arrays: bool) -> int:
    """The most rows of vectors of a ``kind`` that the server stages without its disk."""
    row = dim * (2 if kind == "halfvec" else 4) + _ROW_OVERHEAD_BYTES
    return max(MIN_ROWS, (ARRAYS_BYTES if arrays else TABLE_BYTES) // row)


def even_batch_rows(rows: int, most: int) -> int:
    """Rows of the next batch where ``rows`` are left: as few batches as can be, and no small one at the end."""
    return -(-rows // -(-rows // most))


@dataclass
class BatchSize:
    """The size of the next batch, in rows."""

    rows: int = START_ROWS

    def adjust(self, rows: int, seconds: float) -> None:
        """Learns from a batch: shrinks at once when it was slow, grows by a quarter where a full one would be quick.

        Args:
            rows: of the batch; fewer than half of a full one tell nothing.
            seconds: that their locks were held, but for the line's round trips, which no smaller batch shortens.
        """
        if seconds > AIM_LOCK_S:
            self.rows = max(MIN_ROWS, int(rows * AIM_LOCK_S / seconds))
        elif 2 * rows >= self.rows and seconds * self.rows < rows * AIM_LOCK_S / 2:
            self.rows = min(MAX_ROWS, self.rows + self.rows // 4)

    def halve(self, rows: int) -> None:
        """Learns that a batch of ``rows`` rows ran into our own time-out."""
        self.rows = max(MIN_ROWS, rows // 2)
