"""Token batches: which texts go through the model together. Pure.

A batch is a rectangle, as wide as its longest text, and the model computes the padding too. So texts are sorted by
length and packed by tokens: next to no padding, and a batch that stays in the processor's cache whatever the lengths.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Lengths = npt.NDArray[np.int32]
Positions = npt.NDArray[np.int64]


def token_batches(lengths: Lengths, budget: Callable[[], int]) -> Iterator[Positions]:
    """Packs texts into batches of so many tokens, padding included.

    Args:
        lengths: int32 [n], tokens of each text.
        budget: tokens of the next batch, asked before each; a text that is longer makes a batch of its own.

    Yields:
        Positions in ``lengths``, int64, a batch each; every position once, longest texts first, so that memory runs
        out at once or not at all.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = max(1, int(lengths[order[start]]))
        end = start + max(1, budget() // width)
        yield order[start:end]
        start = end


def padding(lengths: Lengths, batches: Iterable[Positions]) -> float:
    """Share of the computed tokens that are padding, in [0, 1)."""
    computed = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1.0 - float(lengths.sum()) / computed if computed else 0.0


@dataclass
class BudgetSearch:
    """Finds the budget that gives the most tokens a second, on the batches of the work itself.

    The candidates are tried in turn, so that all of them meet the same mix of lengths; once each has had ``trials``
    batches the best by its median rate is kept: the first batches of a shape are slow. For several threads.

    Attributes:
        candidates: budgets to try, in tokens.
        trials: batches for each.
        best: the budget that did best; the middle one as long as nothing is known.
    """

    candidates: tuple[int, ...]
    trials: int = 4
    best: int = field(init=False)
    _rates: dict[int, list[float]] = field(init=False)
    _asked: int = field(init=False, default=0)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._rates = {budget: [] for budget in self.candidates}
        self.best = self.candidates[len(self.candidates) // 2]

    @property
    def searching(self) -> bool:
        """Whether some candidate has had too few batches."""
        return any(len(rates) < self.trials for rates in self._rates.values())

    def next(self) -> int:
        """The budget for the next batch."""
        with self._lock:
            if not self.searching:
                return self.best
            self._asked += 1
            return self.candidates[(self._asked - 1) % len(self.candidates)]

    def took(self, budget: int, tokens: int, seconds: float) -> None:
        """Learns the rate of a batch; the choice falls with the last trial. The rest of a block tells nothing."""
        if 2 * tokens < budget:
            return
        with self._lock:
            self._rates[budget].append(tokens / max(seconds, 1e-9))
            if self.searching:
                return
            self.best = max(self._rates, key=lambda one: float(np.median(self._rates[one])))
