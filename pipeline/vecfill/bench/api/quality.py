"""How good vectors are, by rows that are known to belong together: brute force over cosine, no index.

A row is never its own neighbour. scikit-learn finds neighbours; its ``ndcg_score`` gives one mean over all queries, but
intervals and the difference between the sides need each query's own score, so that these are computed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]

Z95 = 1.959964
"""Normal quantile of a two-sided interval of 95%."""


def mean_of(scores: Scores) -> dict[str, Any] | None:
    """The mean of what is not NaN, its interval of 95% (normal, from the standard error), and how many; None without.

    The interval of a single score is the score itself.
    """
    known = scores[~np.isnan(scores)]
    if not len(known):
        return None
    error = Z95 * float(known.std(ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else 0.0
    middle = float(known.mean())
    return {"mean": middle, "low": middle - error, "high": middle + error, "n": len(known)}


def _finite(vectors: Vectors) -> npt.NDArray[np.float64]:
    """The vectors with zeros for values that are not finite; in float64, which holds the square of any float32."""
    return np.where(np.isfinite(vectors), vectors, 0.0).astype(np.float64)


def nearest(queries: Vectors, documents: Vectors | None, k: int) -> Places:
    """The ``k`` documents nearest to each query by cosine; a zero vector is like nothing.

    Args:
        queries: float32 [q, dim].
        documents: float32 [n, dim]; None for the queries themselves, of which each is left out of its own neighbours.
        k: how many; fewer where there are no more.

    Returns:
        int64 [q, min(k, n or q - 1)], nearest first.
    """
    from sklearn.neighbors import NearestNeighbors

    corpus = queries if documents is None else documents
    count = max(0, min(k, len(corpus) - (documents is None)))
    if not count or not len(queries):
        return np.empty((len(queries), count), np.int64)
    index = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(_finite(corpus))
    found: Places = index.kneighbors(None if documents is None else _finite(queries), return_distance=False)
    return found


def overlap(one: Places, other: Places) -> Scores:
    """Share of a query's neighbours that the other side has too, float64 [q]; their order does not matter."""
    if not one.shape[1]:
        return np.full(len(one), np.nan)
    shared = [len(np.intersect1d(left, right)) for left, right in zip(one, other, strict=True)]
    shares: Scores = np.array(shared, np.float64) / one.shape[1]
    return shares


def precision(hits: Flags, k: int) -> Scores:
    """Share of relevant documents among the first ``k``, float64 [q]; a missing document counts as not relevant.

    ``hits`` is bool [q, found]: whether the document at each rank is relevant, nearest first.
    """
    shares: Scores = hits[:, :k].sum(axis=1) / float(k)
    return shares


def ndcg(hits: Flags, relevant: Places, k: int) -> Scores:
    """Normalized discounted cumulative gain of the first ``k`` with relevance 0 or 1, float64 [q].

    Gain over log2(rank + 1), divided by that of the best order (Järvelin and Kekäläinen 2002); NaN where none of the
    documents is relevant. ``relevant`` is int64 [q], how many are relevant to each query; ``hits`` as in ``precision``.
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    gained = hits[:, :k] @ discount[: hits[:, :k].shape[1]]
    best = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(relevant, k)]
    shares: Scores = np.divide(gained, best, out=np.full(len(hits), np.nan), where=best > 0)
    return shares


def label_codes(labels: Sequence[str | None]) -> tuple[Places, Places]:
    """Labels as numbers, -1 where a row has none, and how many further rows have the same label; int64 [n] each.

    A row makes a query where there are further ones.
    """
    numbers = {label: code for code, label in enumerate(dict.fromkeys(label for label in labels if label is not None))}
    codes = np.array([-1 if label is None else numbers[label] for label in labels], np.int64)
    counts = np.bincount(codes + 1, minlength=1)
    return codes, np.where(codes < 0, 0, counts[codes + 1] - 1)


def label_chance(codes: Places, others: Places) -> float | None:
    """The precision of randomly drawn neighbours; None where no row makes a query."""
    asked = others[others > 0]
    return float(asked.mean() / (int((codes >= 0).sum()) - 1)) if len(asked) else None


def by_label(vectors: Vectors, labels: Sequence[str | None], k: int) -> tuple[Scores, Scores]:
    """Precision@k and nDCG@k of each labelled row's neighbours among the labelled rows; NaN where it makes no query.

    A neighbour counts as relevant where it has the same label.

    Returns:
        Two float64 [n].
    """
    codes, others = label_codes(labels)
    scores = np.full(len(labels), np.nan), np.full(len(labels), np.nan)
    rows = np.flatnonzero(codes >= 0)
    hits = codes[rows][nearest(vectors[rows], None, k)] == codes[rows][:, None]
    scores[0][rows] = np.where(others[rows] > 0, precision(hits, k), np.nan)
    scores[1][rows] = ndcg(hits, others[rows], k)
    return scores
