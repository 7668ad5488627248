"""Each distinct text once: within a block, and within a run in bounded memory.

Job boards, catalogues and logs repeat themselves. A text is known by the hash that the server made of it, so nothing
is hashed twice and a vector is only ever given to the very text that it was made from.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from threading import Event

import numpy as np
import numpy.typing as npt

from vecfill.encode.row_encoder import Positions, Rows

Flags = npt.NDArray[np.bool_]

MEMO_BYTES = 128 << 20
"""Memory of the vectors that are kept: 87,000 texts at 384 dimensions, 21,000 at 1,536."""


class VectorCache:
    """Vectors by text hash; the oldest make room for the newest. Safe in several threads."""

    def __init__(self, dim: int, most_bytes: int = MEMO_BYTES) -> None:
        self._dim, self._capacity = dim, max(1, most_bytes // (4 * dim))
        self._kept = Rows.blank(self._capacity, dim)  # pages that are never touched cost nothing
        self._slots: dict[bytes, int] = {}
        self._owners: list[bytes] = []
        self._next = 0
        self._asked: dict[bytes, Event] = {}
        self._lock = threading.Lock()

    def encode(self, hashes: Sequence[bytes], compute: Callable[[list[int]], Rows]) -> tuple[Rows, Flags]:
        """Returns what became of each text, computing only the first of those that are not known.

        What another thread is computing just now is waited for: an API would be paid twice.

        Args:
            hashes: of n texts.
            compute: encodes the texts at some positions.

        Returns:
            The n rows, and bool [n]: true where the model was not asked for this row. A text that failed fails wherever
            it occurs in the block, and is tried again in the next.
        """
        rows, reused = Rows.blank(len(hashes), self._dim), np.ones(len(hashes), np.bool_)
        left = np.arange(len(hashes))
        while len(left):
            left, mine, others = self._claim(hashes, rows, left)
            found = self._computed(hashes, mine, compute)
            reused[mine] = False
            if len(mine) == len(hashes):
                return found, reused  # nothing to share out: spares a copy
            left = _share(hashes, rows, left, mine, found)
            for other in others:
                other.wait()
        return rows, reused

    def _claim(self, hashes: Sequence[bytes], rows: Rows, left: Positions) -> tuple[Positions, list[int], set[Event]]:
        """Fills in what is known of ``left``, and takes on what nobody computes.

        Returns:
            The positions that are not known; those to be computed here, the first of each text; and what to wait for
            to know the others.
        """
        with self._lock:
            unknown = self._recall(hashes, rows, left)
            first = {hashes[position]: position for position in reversed(unknown.tolist())}
            others = {self._asked[one] for one in first if one in self._asked}
            mine = sorted(position for one, position in first.items() if one not in self._asked)
            self._asked |= dict.fromkeys([hashes[position] for position in mine], Event())
        return unknown, mine, others

    def _computed(self, hashes: Sequence[bytes], mine: list[int], compute: Callable[[list[int]], Rows]) -> Rows:
        """Computes what was taken on, and lets those who wait for it go on, come what may."""
        asked = [hashes[position] for position in mine]
        try:
            found = compute(mine)
            self._remember(asked, found)
        finally:
            with self._lock:
                done = {self._asked.pop(one) for one in asked}
            for event in done:
                event.set()
        return found

    def _recall(self, hashes: Sequence[bytes], rows: Rows, left: Positions) -> Positions:
        """Fills in those of ``left`` that are known and returns the others' positions."""
        slots = np.fromiter((self._slots.get(hashes[row], -1) for row in left.tolist()), np.int64, len(left))
        known = np.flatnonzero(slots >= 0)
        rows.copy_from(left[known], self._kept, slots[known])
        unknown: Positions = left[slots < 0]
        return unknown

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


def _share(hashes: Sequence[bytes], rows: Rows, left: Positions, mine: list[int], found: Rows) -> Positions:
    """Gives what was computed to every row of the same text, and returns the positions that still have nothing."""
    number = {hashes[position]: at for at, position in enumerate(mine)}
    at = np.fromiter((number.get(hashes[row], -1) for row in left.tolist()), np.int64, len(left))
    rows.copy_from(left[at >= 0], found, at[at >= 0])
    rest: Positions = left[at < 0]
    return rest
