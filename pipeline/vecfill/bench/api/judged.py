"""The quality part of the report, and the small retrieval set made of the built-in listings.

The set is the same on every machine: ``DOCUMENTS`` listings are drawn evenly from all 17,269; a document is a job's
title alone, each distinct title once. A query is the name of a department that at least ``LEAST`` of them belong to,
and a document is relevant to it where some job of that title is of that department. The employers wrote these names,
each by rules of its own: *Sales* and *Enterprise Sales* are two departments here, so that no model can reach 1. Both
sides meet the same noise, which makes the difference between them mean more than either figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vecfill.bench.api import quality
from vecfill.bench.api.quality import Flags, Scores, Vectors
from vecfill.bench.api.sides import API, LOCAL, SIDES
from vecfill.bench.corpus import Corpus
from vecfill.demo import listings

AT_MOST = 10
"""Neighbours, or ranks, that quality is judged by."""

DOCUMENTS = 2_000
LEAST = 8
"""Least documents of a department that makes a query: fewer leave a precision at 10 little to find."""

MOST_QUERIES = 60
"""The largest departments; each is one more request to a paid API."""


@dataclass(frozen=True, kw_only=True)
class RetrievalSet:
    """Queries, documents, and which of them belong together: bool [queries, documents]."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    relevant: Flags

    def chance(self) -> float:
        """The precision of randomly drawn documents."""
        return float(self.relevant.mean()) if self.relevant.size else 0.0


def build(documents: int = DOCUMENTS) -> RetrievalSet:
    """Makes the set from the listings."""
    found = [one for one in listings.load(documents) if one.department]
    titles = tuple(dict.fromkeys(one.title for one in found))
    places = {title: place for place, title in enumerate(titles)}
    pairs = dict.fromkeys((one.department, places[one.title]) for one in found)
    sizes = Counter(department for department, _ in pairs)
    queries = tuple(str(name) for name, size in sizes.most_common(MOST_QUERIES) if size >= LEAST)
    relevant = np.zeros((len(queries), len(titles)), np.bool_)
    for row, name in enumerate(queries):
        relevant[row, [place for department, place in pairs if department == name]] = True
    return RetrievalSet(queries=queries, documents=titles, relevant=relevant)


def judge(made: RetrievalSet, queries: Vectors, documents: Vectors, k: int = AT_MOST) -> tuple[Scores, Scores]:
    """Ranks the documents for each query by cosine: precision@k and nDCG@k, float64 [q] each.

    Args:
        made: the set.
        queries: float32 [q, dim].
        documents: float32 [n, dim].
        k: ranks that count.
    """
    hits = np.take_along_axis(made.relevant, quality.nearest(queries, documents, k), axis=1)
    return quality.precision(hits, k), quality.ndcg(hits, made.relevant.sum(axis=1), k)


def _report_scores(scores: tuple[Scores, Scores]) -> dict[str, Any]:
    return {name: quality.mean_of(one) for name, one in zip(("precision", "ndcg"), scores, strict=True)}


def retrieval_quality(made: RetrievalSet | None, facts: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """How well each side finds the documents of the retrieval set; None without one."""
    if made is None:
        return None
    found = {
        side: _report_scores(judge(made, facts[side]["query_vectors"], facts[side]["document_vectors"]))
        for side in SIDES
    }
    about = {"queries": len(made.queries), "documents": len(made.documents), "chance": made.chance()}
    return {**about, "k": AT_MOST, **found}


def neighbour_quality(corpus: Corpus, vectors: Mapping[str, Vectors]) -> dict[str, Any]:
    """How well neighbours agree, on the distinct texts: equal texts have equal vectors, and ties would decide.

    Args:
        corpus: the rows.
        vectors: float32 [n, dim] of each side.
    """
    rows = corpus.distinct()
    mine, theirs = (vectors[side][rows] for side in SIDES)
    enough = len(rows) > AT_MOST + 1
    shared = quality.overlap(quality.nearest(mine, None, AT_MOST), quality.nearest(theirs, None, AT_MOST))
    return {
        "k": AT_MOST,
        "n": len(rows),
        "overlap": quality.mean_of(shared) if enough else None,
        "overlap_chance": AT_MOST / (len(rows) - 1) if enough else None,
        "label": _labelled(corpus, rows, {LOCAL: mine, API: theirs}),
    }


def _labelled(corpus: Corpus, rows: Sequence[int], vectors: Mapping[str, Vectors]) -> dict[str, Any] | None:
    if corpus.labels is None:
        return None
    labels = [corpus.labels[row] for row in rows]
    scores = {side: quality.by_label(vectors[side], labels, AT_MOST) for side in SIDES}
    codes, others = quality.label_codes(labels)
    mine, theirs = (scores[side] for side in SIDES)
    return {
        "column": corpus.label,
        "labels": len(set(labels) - {None}),
        "asked": int((others > 0).sum()),
        "chance": quality.label_chance(codes, others),
        **{side: _report_scores(scores[side]) for side in SIDES},
        "difference": _report_scores((mine[0] - theirs[0], mine[1] - theirs[1])),
    }
