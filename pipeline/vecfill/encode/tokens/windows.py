"""Windows of long texts: what ``--long mean`` embeds instead of a text's beginning.

A window is as long as the model allows, and each has the special tokens and the prompt, as a text of its own would.
Neighbours share ``overlap`` tokens. A text that fits is one window, its tokens those that truncation would leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vecfill.encode.encoding import Positions

if TYPE_CHECKING:
    from vecfill.encode.tokens.tokenization import Ids, Tokens


@dataclass(frozen=True, kw_only=True)
class WindowShape:
    """The tokens of a window.

    Attributes:
        head: special tokens and prompt before the text's tokens.
        body: most tokens of the text.
        tail: special tokens behind them.
        overlap: tokens of the text that two neighbours share; fewer than ``body``.
    """

    head: int
    body: int
    tail: int
    overlap: int

    @property
    def limit(self) -> int:
        """Most tokens of a window."""
        return self.head + self.body + self.tail

    @property
    def step(self) -> int:
        """Tokens of the text from the start of a window to the start of the next."""
        return self.body - self.overlap

    def counts(self, n_tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Returns the windows of texts with so many tokens, prompt and special tokens included."""
        beyond = np.maximum(0, n_tokens.astype(np.int64) - self.limit)
        counts: npt.NDArray[np.int64] = 1 + -(-beyond // self.step)
        return counts


class Windows:
    """The windows of ``n`` texts, as inputs of the model; one text's after the other's. Pure.

    Attributes:
        n_tokens: int32 [n], tokens of the texts, prompt and special tokens included.
        windows: int32 [n], windows of each text.
        truncated: bool [n], none.
        owners: int64 [m], the text of each window.
        shares: float64 [m], the window's share of the tokens that its text's windows hold; 1 where it is the only one.
        lengths: int32 [m], tokens of each window.
        by: which tokenizer made the tokens.
    """

    def __init__(self, tokens: Tokens, shape: WindowShape) -> None:
        """Cuts tokens that are not truncated."""
        self._tokens, self._shape, self.n_tokens, self.by = tokens, shape, tokens.n_tokens, tokens.by
        counts = shape.counts(tokens.n_tokens)
        self.windows = counts.astype(np.int32)
        self.truncated = np.zeros(len(counts), np.bool_)
        self.owners: Positions = np.repeat(np.arange(len(counts)), counts)
        first = np.cumsum(counts) - counts
        self._skipped = (np.arange(len(self.owners)) - first[self.owners]) * shape.step
        rest = tokens.n_tokens[self.owners] - self._skipped
        self.lengths = np.minimum(shape.limit, rest).astype(np.int32)

    @cached_property
    def shares(self) -> npt.NDArray[np.float64]:
        """See the class."""
        held = (self.lengths - self._shape.head - self._shape.tail).astype(np.float64)
        held[self.windows[self.owners] == 1] = 1.0  # a text may be shorter than the prompt's tokens alone
        shares: npt.NDArray[np.float64] = held / np.bincount(self.owners, held, len(self.windows))[self.owners]
        return shares

    def packed(self, rows: Positions) -> tuple[Ids, Ids | None]:
        """Returns the tokens of some windows, one window after the other, and their token types."""
        lengths = self.lengths[rows].astype(np.int64)
        ends = np.cumsum(lengths)
        place = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
        whole, starts = self._tokens.places(self.owners[rows])
        source = np.repeat(starts, lengths) + place
        source += np.where(place >= self._shape.head, np.repeat(self._skipped[rows], lengths), 0)
        behind = place >= np.repeat(lengths - self._shape.tail, lengths)
        source[behind] = (np.repeat(starts + whole - lengths, lengths) + place)[behind]
        types = self._tokens.types
        return self._tokens.ids[source], None if types is None else types[source]
