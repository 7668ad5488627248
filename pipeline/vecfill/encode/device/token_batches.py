"""Token batches: which texts go through the model together. Pure.

What a batch costs depends on who computes it. Where it is a rectangle, as wide as its longest text, the model computes
the padding too: so texts are sorted by length and packed by tokens, which leaves almost no padding. Where texts lie one
after the other, a batch costs its tokens, and the texts come in their own order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vecfill.encode.encoding import Positions

Lengths = npt.NDArray[np.int32]

BatchTokens = Callable[[], int]
"""Returns the tokens of the next batch."""


def token_batches(lengths: Lengths, batch_tokens: BatchTokens) -> Iterator[Positions]:
    """Packs texts into rectangles of a number of tokens, padding included.

    Args:
        lengths: int32 [n], tokens of each text.
        batch_tokens: returns the tokens of the next batch, called before each; a longer text gets a batch of its own.

    Yields:
        Positions in ``lengths``, int64, one array per batch; every position once, longest texts first, so that memory
        runs out at once or not at all.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = max(1, int(lengths[order[start]]))
        end = start + max(1, batch_tokens() // width)
        yield order[start:end]
        start = end


def packed_batches(lengths: Lengths, batch_tokens: BatchTokens) -> Iterator[Positions]:
    """Packs texts into batches of a number of tokens, without padding and in their order.

    Args and what it yields: as ``token_batches``. Only texts that exceed a batch come first.
    """
    size = batch_tokens() if len(lengths) else 0
    order = np.argsort(lengths <= size, kind="stable")
    ends = np.cumsum(lengths[order], dtype=np.int64)
    start = done = 0
    while start < len(order):
        end = max(start + 1, int(np.searchsorted(ends, done + size, side="right")))
        yield order[start:end]
        start, done, size = end, int(ends[end - 1]), batch_tokens()


def padding(lengths: Lengths, batches: Iterable[Positions]) -> float:
    """Returns the share of the computed tokens that is padding, in [0, 1)."""
    computed = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1.0 - float(lengths.sum()) / computed if computed else 0.0


@dataclass
class BatchSizeSearch:
    """Finds the batch size with the most tokens a second, on the batches of the work itself. Thread-safe.

    The candidates take turns, so that all of them get the same mix of lengths. Once each has had ``trials`` batches,
    the one with the best median rate is kept: the first batches of a shape are slow.

    Attributes:
        candidates: batch sizes to try, in tokens.
        trials: batches for each.
        best: the best batch size; the middle candidate while nothing is known.
    """

    candidates: tuple[int, ...]
    trials: int = 4
    best: int = 0
    _rates: dict[int, list[float]] = field(init=False)
    _started: int = field(init=False, default=0)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._rates = {size: [] for size in self.candidates}
        self.best = self.best or self.candidates[len(self.candidates) // 2]

    @property
    def searching(self) -> bool:
        """Whether a candidate has had too few batches."""
        return any(len(rates) < self.trials for rates in self._rates.values())

    def next(self) -> int:
        """Returns the size of the next batch."""
        with self._lock:
            if not self.searching:
                return self.best
            self._started += 1
            return self.candidates[(self._started - 1) % len(self.candidates)]

    def record(self, size: int, tokens: int, seconds: float) -> None:
        """Records the rate of a batch; the last trial decides. Ignores a batch less than half full: a block's last."""
        if 2 * tokens < size:
            return
        with self._lock:
            self._rates[size].append(tokens / max(seconds, 1e-9))
            if self.searching:
                return
            self.best = max(self._rates, key=lambda one: float(np.median(self._rates[one])))
