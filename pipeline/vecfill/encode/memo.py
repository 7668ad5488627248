"""Each distinct text once: within a block, and within a run in bounded memory.

Job boards, catalogues and logs repeat themselves. A text is known by the hash that the server made of it, so nothing
is hashed twice and a vector is only ever given to the very text that it was made from.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from vecfill.encode.rows import Positions, Rows

Flags = npt.NDArray[np.bool_]

MEMO_BYTES = 128 << 20
"""Memory of the vectors that are kept: 87,000 texts at 384 dimensions, 21,000 at 1,536."""


class Memo:
    """Vectors by text hash; the oldest make room for the newest. Safe in several threads."""

    def __init__(self, dim: int, most_bytes: int = MEMO_BYTES) -> None:
        self._dim, self._capacity = dim, max(1, most_bytes // (4 * dim))
        self._kept = Rows.blank(self._capacity, dim)  # pages that are never touched cost nothing
        self._slots: dict[bytes, int] = {}
        self._owners: list[bytes] = []
        self._next = 0
        self._lock = threading.Lock()

    def encode(self, hashes: Sequence[bytes], compute: Callable[[list[int]], Rows]) -> tuple[Rows, Flags]:
        """Returns what became of each text, computing only the first of those that are not known.

        Args:
            hashes: of n texts.
            compute: encodes the texts at some positions.

        Returns:
            The n rows, and bool [n]: true where the model was not asked for this row. A text that failed fails wherever
            it occurs in the block, and is tried again in the next.
        """
        rows = Rows.blank(len(hashes), self._dim)
        unknown = self._recall(hashes, rows)
        first = {hashes[position]: position for position in reversed(unknown.tolist())}
        asked = sorted(first.values())
        found = compute(asked)
        if len(asked) == len(hashes):
            rows = found  # nothing to share out: spares a copy
        else:
            number = {hashes[position]: at for at, position in enumerate(asked)}
            rows.copy_from(unknown, found, np.array([number[hashes[row]] for row in unknown.tolist()], np.int64))
        self._remember([hashes[position] for position in asked], found)
        reused = np.ones(len(hashes), np.bool_)
        reused[asked] = False
        return rows, reused

    def _recall(self, hashes: Sequence[bytes], rows: Rows) -> Positions:
        """Fills in the rows that are known and returns the others' positions."""
        with self._lock:
            slots = np.fromiter((self._slots.get(one, -1) for one in hashes), np.int64, len(hashes))
            known = np.flatnonzero(slots >= 0)
            rows.copy_from(known, self._kept, slots[known])
        return np.flatnonzero(slots < 0)

    def _remember(self, hashes: list[bytes], found: Rows) -> None:
        """Keeps the rows that have a vector, in the place of the oldest once the memory is full."""
        good = np.flatnonzero(~(found.failed() | found.unasked))[-self._capacity :]
        with self._lock:
            slots = (self._next + np.arange(len(good))) % self._capacity
            for slot, row in zip(slots.tolist(), good.tolist(), strict=True):
                self._own(slot, hashes[row])
            self._kept.copy_from(slots, found, good)
            self._next = (self._next + len(good)) % self._capacity

    def _own(self, slot: int, text_hash: bytes) -> None:
        """Gives a slot to a text, and forgets the one that had it."""
        if slot < len(self._owners):
            if self._slots.get(self._owners[slot]) == slot:
                del self._slots[self._owners[slot]]
            self._owners[slot] = text_hash
        else:
            self._owners.append(text_hash)
        self._slots[text_hash] = slot
