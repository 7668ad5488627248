"""How good vectors are, by rows that are known to belong together. Pure: NumPy alone, brute force, no index.

Similarity is the cosine. Ties go to the row that comes first, on both sides alike. A row is never its own neighbour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]

AT_ONCE = 512
"""Queries whose similarities are held at a time: float32 [512, n]."""

Z95 = 1.959964
"""Normal quantile of a two-sided interval of 95%."""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean over queries, and its interval of 95% (normal, from the standard error; the mean itself for one query).

    Attributes:
        n: queries that counted.
    """

    mean: float
    low: float
    high: float
    n: int


def mean_of(scores: Scores) -> Mean | None:
    """The mean of what is not NaN; None where nothing is left."""
    known = scores[~np.isnan(scores)]
    if not len(known):
        return None
    error = Z95 * float(known.std(ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else 0.0
    middle = float(known.mean())
    return Mean(mean=middle, low=middle - error, high=middle + error, n=len(known))


def unit(vectors: Vectors) -> Vectors:
    """The vectors at length one; zero and not finite ones become zero, which is like nothing."""
    wide = np.where(np.isfinite(vectors), vectors, 0.0).astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: Vectors = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0).astype(np.float32)
    return scaled


def nearest(queries: Vectors, documents: Vectors, k: int, *, same: bool = False) -> Places:
    """The ``k`` documents nearest to each query.

    Args:
        queries: float32 [q, dim].
        documents: float32 [n, dim].
        k: how many; fewer where there are no more.
        same: query ``i`` is document ``i``, which is then left out.

    Returns:
        int64 [q, min(k, n or n - 1)], nearest first.
    """
    count = min(k, len(documents) - 1 if same else len(documents))
    one, other = unit(queries), unit(documents)
    found = np.empty((len(queries), max(count, 0)), np.int64)
    for start in range(0, len(queries), AT_ONCE):
        likeness = one[start : start + AT_ONCE] @ other.T
        if same:
            rows = np.arange(len(likeness))
            likeness[rows, start + rows] = -np.inf
        found[start : start + AT_ONCE] = np.argsort(-likeness, axis=1, kind="stable")[:, : max(count, 0)]
    return found


def overlap(one: Places, other: Places) -> Scores:
    """Share of a query's neighbours that the other side has too, float64 [q]; the order among them does not matter."""
    if not one.shape[1]:
        return np.full(len(one), np.nan)
    shared = [len(np.intersect1d(left, right)) for left, right in zip(one, other, strict=True)]
    shares: Scores = np.array(shared, np.float64) / one.shape[1]
    return shares


def precision(hits: Flags, k: int) -> Scores:
    """Share of relevant documents among the first ``k``, float64 [q]; what is not there counts as not relevant.

    Args:
        hits: bool [q, found], whether the document at each rank is relevant, nearest first.
        k: ranks that count.
    """
    shares: Scores = hits[:, :k].sum(axis=1) / float(k)
    return shares


def ndcg(hits: Flags, relevant: Places, k: int) -> Scores:
    """Normalized discounted cumulative gain of the first ``k`` with relevance 0 or 1, float64 [q].

    Gain over log2(rank + 1), divided by what the best order would have (Järvelin and Kekäläinen 2002); NaN where no
    document is relevant.

    Args:
        hits: as in ``precision``.
        relevant: int64 [q], how many documents are relevant to each query.
        k: ranks that count.
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    gained = hits[:, :k] @ discount[: hits[:, :k].shape[1]]
    best = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(relevant, k)]
    shares: Scores = np.divide(gained, best, out=np.full(len(hits), np.nan), where=best > 0)
    return shares


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels as numbers.

    Attributes:
        codes: int64 [n]; -1 where a row has none.
        others: int64 [n], rows of the same label beside this one.
    """

    codes: Places
    others: Places

    @property
    def usable(self) -> Flags:
        """Rows that can be asked about: labelled, and not the only one of their label."""
        return self.others > 0

    def chance(self) -> float | None:
        """The precision that neighbours drawn by lot would have; None where no row can be asked about."""
        labelled = int((self.codes >= 0).sum())
        return float(self.others[self.usable].mean() / (labelled - 1)) if self.usable.any() else None


def labels_of(labels: list[str | None]) -> Labels:
    """Numbers the labels."""
    known = {label: code for code, label in enumerate(dict.fromkeys(one for one in labels if one is not None))}
    codes = np.array([-1 if label is None else known[label] for label in labels], np.int64)
    counts = np.bincount(codes[codes >= 0], minlength=len(known)) if known else np.zeros(0, np.int64)
    others = np.array([0 if code < 0 else counts[code] - 1 for code in codes], np.int64)
    return Labels(codes=codes, others=others)


def by_label(vectors: Vectors, labels: list[str | None], k: int) -> tuple[Scores, Scores]:
    """Precision@k and nDCG@k of each labelled row's neighbours among the labelled rows; NaN where it cannot be asked.

    A neighbour counts as relevant where it has the same label.

    Returns:
        Two float64 [n].
    """
    found = labels_of(labels)
    scores = np.full(len(labels), np.nan), np.full(len(labels), np.nan)
    rows = np.flatnonzero(found.codes >= 0)
    if not found.usable.any():
        return scores
    places = nearest(vectors[rows], vectors[rows], k, same=True)
    codes = found.codes[rows]
    hits = codes[places] == codes[:, None]
    asked = found.usable[rows]
    scores[0][rows[asked]] = precision(hits, k)[asked]
    scores[1][rows[asked]] = ndcg(hits, found.others[rows], k)[asked]
    return scores
