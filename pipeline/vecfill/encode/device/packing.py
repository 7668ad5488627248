"""Texts that lie one after the other without padding: where each begins, and the positions of their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Ids = npt.NDArray[np.int64]


class Run(NamedTuple):
    """Texts of equal length that follow one another: where their tokens are, how many texts, and their length."""

    tokens: slice
    texts: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Where the texts of a batch are.

    Attributes:
        lengths: tokens of each text, at least 1.
        boundaries: integers [texts + 1] on the device: where each text begins, and the end of the last.
    """

    lengths: list[int]
    boundaries: torch.Tensor

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(self.lengths)

    @cached_property
    def runs(self) -> list[Run]:
        """The texts by equal length: few runs if the texts are sorted by length."""
        runs, start = [], 0
        for length, same in groupby(self.lengths):
            texts = len(list(same))
            runs.append(Run(slice(start, start + texts * length), texts, length))
            start += texts * length
        return runs


def boundaries_of(lengths: Ids) -> npt.NDArray[np.int32]:
    """Returns int32 [texts + 1]: where each text begins, and the end of the last."""
    found = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=found[1:])
    return found


def positions_of(ids: Ids, lengths: Ids, padding: int | None) -> Ids:
    """Returns the positions [n] of the texts' tokens [n].

    Args:
        ids: the tokens, one text after the other.
        lengths: of the texts.
        padding: None counts from 0; a token id counts behind it, and gives the tokens of this id no position.
    """
    starts = boundaries_of(lengths)[:-1]
    if padding is None:
        return np.arange(len(ids)) - np.repeat(starts, lengths)
    real = ids != padding
    counted = np.concatenate([[0], np.cumsum(real)])
    found: Ids = (counted[1:] - np.repeat(counted[starts], lengths)) * real + padding
    return found
