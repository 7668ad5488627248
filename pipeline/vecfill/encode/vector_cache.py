"""Encodes each distinct text once: within a block, and within a run in bounded memory.

Job boards, catalogues and logs contain many equal texts. The server already hashed every text, so the hash is the key,
and a vector is only reused for the very text that it was made from.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from threading import Event

import numpy as np

from vecfill.encode.encoding import Encoding, Flags, Positions, TokensBy

CACHE_BYTES = 128 << 20
"""Memory for cached vectors: 87,000 texts at 384 dimensions, 21,000 at 1,536."""

MOST_TEXTS = 100_000
"""Cached texts at most: the books about millions of short vectors would cost a process 50 MB for each target."""


class VectorCache:
    """Vectors by text hash; the newest replace the oldest. Thread-safe."""

    def __init__(self, dim: int, max_bytes: int = CACHE_BYTES) -> None:
        self.dim, self._capacity = dim, min(MOST_TEXTS, max(1, max_bytes // (4 * dim)))
        self._kept = Encoding.blank(self._capacity, dim)  # untouched pages cost no memory
        self._slots: dict[bytes, int] = {}
        self._owners: list[bytes] = []
        self._next = 0
        self._pending: dict[bytes, Event] = {}
        self._lock = threading.Lock()

    def encode(self, hashes: Sequence[bytes], compute: Callable[[list[int]], Encoding]) -> tuple[Encoding, Flags]:
        """Returns the encoding of each text; only the first occurrence of an unknown text is computed.

        Waits for texts that another thread is computing: an API would be paid twice.

        Args:
            hashes: of n texts.
            compute: encodes the texts at the given positions.

        Returns:
            The encoding of the n texts, and bool [n]: true where the model did not compute this row. A text that failed
            fails wherever it occurs in the block, and is tried again in the next block.
        """
        encoding, reused = Encoding.blank(len(hashes), self.dim), np.ones(len(hashes), np.bool_)
        missing = np.arange(len(hashes))
        while len(missing):
            missing, mine, others = self._claim(hashes, encoding, missing)
            computed = self._compute(hashes, mine, compute)
            reused[mine] = False
            if len(mine) == len(hashes):
                return computed, reused  # every text is new: spares a copy
            missing = _distribute(hashes, encoding, missing, mine, computed)
            for other in others:
                other.wait()
        return encoding, reused

    def forget(self, by: TokensBy) -> None:
        """Forgets the vectors made from tokens of a tokenizer."""
        with self._lock:
            for slot in np.flatnonzero(self._kept.tokens_by == by).tolist():
                if self._slots.get(self._owners[slot]) == slot:
                    del self._slots[self._owners[slot]]
                self._kept.tokens_by[slot] = TokensBy.LIBRARY

    def _claim(
        self, hashes: Sequence[bytes], encoding: Encoding, missing: Positions
    ) -> tuple[Positions, list[int], set[Event]]:
        """Fills in cached vectors and claims the texts that nobody computes.

        Returns:
            The positions without a cached vector; those to compute here, the first of each text; and the events to
            wait for before the others are cached.
        """
        with self._lock:
            unknown = self._recall(hashes, encoding, missing)
            first = {hashes[position]: position for position in reversed(unknown.tolist())}
            others = {self._pending[text] for text in first if text in self._pending}
            mine = sorted(position for text, position in first.items() if text not in self._pending)
            self._pending |= dict.fromkeys([hashes[position] for position in mine], Event())
        return unknown, mine, others

    def _compute(self, hashes: Sequence[bytes], mine: list[int], compute: Callable[[list[int]], Encoding]) -> Encoding:
        """Computes the claimed texts, and releases the threads that wait for them even if that fails."""
        claimed = [hashes[position] for position in mine]
        try:
            computed = compute(mine)
            self._remember(claimed, computed)
        finally:
            with self._lock:
                done = {self._pending.pop(text) for text in claimed}
            for event in done:
                event.set()
        return computed

    def _recall(self, hashes: Sequence[bytes], encoding: Encoding, missing: Positions) -> Positions:
        """Fills in the cached texts among ``missing`` and returns the positions of the others."""
        slots = np.fromiter((self._slots.get(hashes[row], -1) for row in missing.tolist()), np.int64, len(missing))
        known = np.flatnonzero(slots >= 0)
        encoding.copy_from(missing[known], self._kept, slots[known])
        unknown: Positions = missing[slots < 0]
        return unknown

    def _remember(self, hashes: list[bytes], computed: Encoding) -> None:
        """Caches the rows that have a vector; once the cache is full they replace the oldest."""
        good = np.flatnonzero(~(computed.failed() | computed.unasked))[-self._capacity :]
        with self._lock:
            slots = (self._next + np.arange(len(good))) % self._capacity
            for slot, row in zip(slots.tolist(), good.tolist(), strict=True):
                self._assign(slot, hashes[row])
            self._kept.copy_from(slots, computed, good)
            self._next = (self._next + len(good)) % self._capacity

    def _assign(self, slot: int, text_hash: bytes) -> None:
        """Gives a slot to a text, and forgets its previous owner."""
        if slot < len(self._owners):
            if self._slots.get(self._owners[slot]) == slot:
                del self._slots[self._owners[slot]]
            self._owners[slot] = text_hash
        else:
            self._owners.append(text_hash)
        self._slots[text_hash] = slot


def _distribute(
    hashes: Sequence[bytes], encoding: Encoding, missing: Positions, mine: list[int], computed: Encoding
) -> Positions:
    """Copies the computed vectors to every row of the same text and returns the positions still without one."""
    number = {hashes[position]: at for at, position in enumerate(mine)}
    at = np.fromiter((number.get(hashes[row], -1) for row in missing.tolist()), np.int64, len(missing))
    encoding.copy_from(missing[at >= 0], computed, at[at >= 0])
    rest: Positions = missing[at < 0]
    return rest
