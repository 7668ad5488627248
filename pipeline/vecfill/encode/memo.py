"""Each distinct text once: within a block, and within a run in bounded memory.

Job boards, catalogues and logs repeat themselves. A text is known by the hash that the server made of it, so nothing
is hashed twice and a vector is only ever given to the very text that it was made from.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from vecfill.encode.rows import Rows

Flags = npt.NDArray[np.bool_]

MEMO_BYTES = 128 << 20
"""Memory of the vectors that are kept: 85,000 texts at 384 dimensions, 21,000 at 1,536."""


class Memo:
    """Vectors by text hash; the oldest make room for the newest. Safe in several threads."""

    def __init__(self, dim: int, most_bytes: int = MEMO_BYTES) -> None:
        self._kept = Rows.blank(max(1, most_bytes // (4 * dim)), dim)  # untouched pages cost nothing
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
        rows = Rows.blank(len(hashes), self._kept.vectors.shape[1])
        known = self._recall(hashes, rows)
        numbers: dict[bytes, int] = {}
        first: list[int] = []
        for position in np.flatnonzero(~known):
            if numbers.setdefault(hashes[int(position)], len(first)) == len(first):
                first.append(int(position))
        found = compute(first)
        unknown = np.flatnonzero(~known)
        rows.copy_from(unknown, found, np.array([numbers[hashes[int(position)]] for position in unknown], np.int64))
        self._remember([hashes[int(position)] for position in first], found)
        known[unknown] = True
        known[first] = False
        return rows, known

    def _recall(self, hashes: Sequence[bytes], rows: Rows) -> Flags:
        """Fills in the rows that are known and says which."""
        with self._lock:
            slots = np.fromiter((self._slots.get(one, -1) for one in hashes), np.int64, len(hashes))
            known: Flags = slots >= 0
            rows.copy_from(np.flatnonzero(known), self._kept, slots[known])
        return known

    def _remember(self, hashes: list[bytes], found: Rows) -> None:
        """Keeps the rows that have a vector, in the place of the oldest once the memory is full."""
        capacity = len(self._kept.error)
        good = np.flatnonzero(~found.failed())[-capacity:]
        with self._lock:
            slots = (self._next + np.arange(len(good))) % capacity
            for slot, row in zip(map(int, slots), map(int, good), strict=True):
                self._own(slot, hashes[row])
            self._kept.copy_from(slots, found, good)
            self._next = (self._next + len(good)) % capacity

    def _own(self, slot: int, text_hash: bytes) -> None:
        """Gives a slot to a text, and forgets the one that had it."""
        if slot < len(self._owners):
            if self._slots.get(self._owners[slot]) == slot:
                del self._slots[self._owners[slot]]
            self._owners[slot] = text_hash
        else:
            self._owners.append(text_hash)
        self._slots[text_hash] = slot
