"""Quality as the report has it: of the vectors that both sides wrote, and of those of the retrieval set."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vecfill.bench.api import retrieval
from vecfill.bench.api.plan import AT_MOST, Plan
from vecfill.bench.api.quality import Mean, Scores, Vectors, by_label, labels_of, mean_of, nearest, overlap
from vecfill.bench.api.sides import API, LOCAL, SIDES


def quality(plan: Plan, vectors: dict[str, Vectors]) -> dict[str, Any]:
    """On the distinct texts: equal texts have equal vectors, and a tie would decide between them."""
    rows = plan.rows.distinct()
    mine, theirs = (vectors[side][rows] for side in SIDES)
    shared = overlap(nearest(mine, mine, AT_MOST, same=True), nearest(theirs, theirs, AT_MOST, same=True))
    return {
        "k": AT_MOST,
        "n": len(rows),
        "overlap": _told(mean_of(shared)) if len(rows) > AT_MOST + 1 else None,
        "overlap_chance": AT_MOST / (len(rows) - 1) if len(rows) > AT_MOST + 1 else None,
        "label": _labelled(plan, rows, mine, theirs),
    }


def _labelled(plan: Plan, rows: list[int], mine: Vectors, theirs: Vectors) -> dict[str, Any] | None:
    if plan.rows.labels is None:
        return None
    labels = [plan.rows.labels[row] for row in rows]
    scores = {LOCAL: by_label(mine, labels, AT_MOST), API: by_label(theirs, labels, AT_MOST)}
    told = {
        side: {"precision": _told(mean_of(one)), "ndcg": _told(mean_of(two))} for side, (one, two) in scores.items()
    }
    found = labels_of(labels)
    return {
        "column": plan.rows.label,
        "labels": len({label for label in labels if label is not None}),
        "asked": int(found.usable.sum()),
        "chance": found.chance(),
        **told,
        "difference": {
            "precision": _told(mean_of(_minus(scores[LOCAL][0], scores[API][0]))),
            "ndcg": _told(mean_of(_minus(scores[LOCAL][1], scores[API][1]))),
        },
    }


def _minus(one: Scores, other: Scores) -> Scores:
    return one - other


def _told(mean: Mean | None) -> dict[str, Any] | None:
    return asdict(mean) if mean else None


def retrieved(plan: Plan, facts: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """How well each side finds the documents of the retrieval set; None without one."""
    made = plan.retrieval
    if made is None:
        return None
    found = {}
    for side in SIDES:
        queries, documents = facts[side]["query_vectors"], facts[side]["document_vectors"]
        judged = retrieval.judge(made, queries, documents, AT_MOST)
        found[side] = {"precision": _told(judged.precision), "ndcg": _told(judged.ndcg)}
    about = {"queries": len(made.queries), "documents": len(made.documents), "chance": retrieval.chance(made)}
    return {**about, "k": AT_MOST, **found}
