"""How right and how fast a strategy is on this device."""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt

from vecfill.encode.device.forward import Forward
from vecfill.encode.tokens.hard_texts import ORDINARY

_TEXTS, _WORDS = 2_000, 60
"""Texts, and words of the longest one: most tables hold short texts."""

_BATCH_TOKENS = 16_384
"""Tokens a batch: fills a GPU, and does not wait for the search of a better size."""

_ROUNDS = 3


def tokens_per_s(forward: Forward) -> float:
    """Returns the tokens that it computes a second, the copies to and from the device included."""
    words = " ".join(ORDINARY).split() * 2
    tokens = forward.tokenize([" ".join(words[row % 7 : row % 7 + 2 + row % _WORDS]) for row in range(_TEXTS)])
    forward(tokens, _BATCH_TOKENS)  # the first batches of a shape choose their kernels
    best = math.inf
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        forward(tokens, _BATCH_TOKENS)
        best = min(best, time.perf_counter() - started)
    return float(tokens.lengths.sum()) / best


def lowest_cosine(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> float:
    """Returns the lowest cosine of the rows of two matrices; equal rows count as 1, also where they are zero."""
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    products = np.sum(ours.astype(np.float64) * theirs, axis=1)
    return float(np.where((ours == theirs).all(axis=1), 1.0, products / np.maximum(norms, 1e-30)).min())
