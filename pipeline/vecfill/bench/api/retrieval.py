"""A small retrieval set made of the built-in listings, the same on every machine, with no label of ours in it.

How it is made: ``DOCUMENTS`` listings are drawn evenly from all 17,269; a document is a job's title alone, each
distinct title once. A query is the name of a department that at least ``LEAST`` of them belong to, and a document is
relevant to it where some job of that title is of that department. The employers wrote these names, each by rules of
its own: *Sales* and *Enterprise Sales* are two departments here, so that no model can reach 1. Both sides meet the same
noise, which makes the difference between them mean more than either figure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from vecfill.bench.api.quality import Flags, Mean, Vectors, mean_of, ndcg, nearest, precision
from vecfill.demo import listings

DOCUMENTS = 2_000
LEAST = 8
"""Documents of a department that is asked for: a precision at 10 has little to find in fewer."""

MOST_QUERIES = 60
"""The largest departments; each is one more request to a paid API."""


@dataclass(frozen=True, kw_only=True)
class RetrievalSet:
    """Queries, documents, and what belongs together.

    Attributes:
        queries: q texts.
        documents: n texts, each once.
        relevant: bool [q, n].
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    relevant: Flags


def build(documents: int = DOCUMENTS) -> RetrievalSet:
    """Makes the set from the listings."""
    found = [one for one in listings.load(documents) if one.department]
    titles = tuple(dict.fromkeys(one.title for one in found))
    places = {title: place for place, title in enumerate(titles)}
    pairs = dict.fromkeys((one.department, places[one.title]) for one in found)
    sizes = Counter(department for department, _ in pairs)
    queries = tuple(str(name) for name, size in sizes.most_common(MOST_QUERIES) if size >= LEAST)
    rows = {name: row for row, name in enumerate(queries)}
    relevant = np.zeros((len(queries), len(titles)), np.bool_)
    for department, place in pairs:
        if department in rows:
            relevant[rows[department], place] = True
    return RetrievalSet(queries=queries, documents=titles, relevant=relevant)


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """How well the documents were found, as means over the queries."""

    precision: Mean | None
    ndcg: Mean | None


def judge(made: RetrievalSet, queries: Vectors, documents: Vectors, k: int) -> Retrieved:
    """Ranks the documents for each query by cosine.

    Args:
        made: the set.
        queries: float32 [q, dim].
        documents: float32 [n, dim].
        k: ranks that count.
    """
    places = nearest(queries, documents, k)
    hits = np.take_along_axis(made.relevant, places, axis=1)
    counts = made.relevant.sum(axis=1)
    return Retrieved(precision=mean_of(precision(hits, k)), ndcg=mean_of(ndcg(hits, counts, k)))


def chance(made: RetrievalSet) -> float:
    """The precision that documents drawn by lot would have."""
    return float(made.relevant.mean()) if made.relevant.size else 0.0
