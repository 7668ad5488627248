"""The size of a write batch, adapted to measured times so that no row stays locked for long. Pure.

It is also limited to what the server can stage in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

START_ROWS = 2_000
"""First size without an index: the best of 500, 2,000 and 10,000 (12k, 22k, 17k rows/s at 384 dimensions)."""

INDEXED_ROWS = 100
"""First size if a vector index must be maintained: 500 rows took 1.2 s there at 384 dimensions, 2,000 took 4.3 s."""

MIN_ROWS, MAX_ROWS = 20, 8_000
AIM_LOCK_S = 0.5
"""Longest time that a batch should hold its row locks. With an HNSW index 2,000 rows take 4.3 s."""

TABLE_BYTES, ARRAYS_BYTES = 7 << 20, 3 << 20
"""Largest batch that stays in the server's memory: a temporary table in ``temp_buffers`` (default 8 MB), arrays in
``work_mem`` (default 4 MB). At 384 dimensions tables of 4,000 and 8,000 rows were written at 56k and 43k rows/s, arrays
of 2,000 and 4,000 rows at 40k and 31k."""

_ROW_OVERHEAD_BYTES = 64
"""Bytes of a staged row without its vector: position, key, hash, tuple header."""


def max_rows_in_memory(dim: int, kind: str, *, arrays: bool) -> int:
    """Returns the most rows that the server can stage in memory, with vectors of type ``kind``."""
    row = dim * {"halfvec": 2, "double precision[]": 8}.get(kind, 4) + _ROW_OVERHEAD_BYTES
    return max(MIN_ROWS, (ARRAYS_BYTES if arrays else TABLE_BYTES) // row)


def even_batch_rows(rows: int, most: int) -> int:
    """Returns the size of the next batch when ``rows`` rows are left: as few batches as possible, of equal size."""
    return -(-rows // -(-rows // most))


@dataclass
class BatchSize:
    """The size of the next batch, in rows."""

    rows: int = START_ROWS

    def adjust(self, rows: int, seconds: float) -> None:
        """Adapts to a finished batch: shrinks at once if it was slow, grows by a quarter if a full one would be fast.

        Args:
            rows: size of the batch; it does not grow after one of less than half the full size.
            seconds: how long its locks were held, without network round trips, which a smaller batch does not shorten.
        """
        if seconds > AIM_LOCK_S:
            self.rows = max(MIN_ROWS, int(rows * AIM_LOCK_S / seconds))
        elif 2 * rows >= self.rows and seconds * self.rows < rows * AIM_LOCK_S / 2:
            self.rows = min(MAX_ROWS, self.rows + self.rows // 4)

    def halve(self, rows: int) -> None:
        """Adapts to a batch of ``rows`` rows that exceeded our own timeout."""
        self.rows = max(MIN_ROWS, rows // 2)
