"""Whether a vector index finds rows by their own vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vecfill.postgres import search_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.index_scan import configure_scan, index_used
from vecfill.postgres.relation import Relation
from vecfill.postgres.search_sql import Measure
from vecfill.postgres.transaction import transaction
from vecfill.vector_search import comparison
from vecfill.verification.judgement import StoredRow

AMONG = 10
"""Nearest rows among which a row must be."""

TIE = 1e-4
"""Distances that differ by less are equal: rows with the same text, and rounding to halfvec."""

THROUGH_INDEX = {"enable_seqscan": "off", "enable_sort": "off"}
"""The planner takes the index in a small table too, where it would not pay."""


@dataclass(frozen=True, kw_only=True)
class IndexRecall:
    """How many rows an index finds by their own vectors.

    Attributes:
        index: its name.
        rows: rows that were searched for.
        found: those among the nearest ten, or with ten others as near as themselves.
    """

    index: str
    rows: int
    found: int


def index_recall(connection: Connection, relation: Relation, rows: Sequence[StoredRow]) -> IndexRecall | None:
    """Searches for rows by their own vectors, through the index that a search uses; None if there is none."""
    if not rows or not relation.table.vector_indexes:
        return None
    schema, measure = comparison(connection, relation)
    if measure.index is None:
        return None
    everywhere = replace(relation, user_sql=replace(relation.user_sql, where=None))
    for searched in (everywhere, relation):  # a partial index serves only a search with its condition
        if found := _recall(connection, searched, schema, measure, rows):
            return found
    return None


def _recall(
    connection: Connection, relation: Relation, schema: str, measure: Measure, rows: Sequence[StoredRow]
) -> IndexRecall | None:
    query = search_sql.nearest(relation, schema, measure, ())
    with transaction(connection, relation.access.reading | THROUGH_INDEX, read_only=True) as cursor:
        configure_scan(cursor, schema, AMONG)
        index = index_used(cursor, query, (rows[0].vector.tolist(), AMONG), relation, measure)
        if index is None:
            return None
        found = 0
        for row in rows:
            nearest = cursor.execute(query, (row.vector.tolist(), AMONG)).fetchall()
            found += is_found(", ".join(row.parts) or row.key, row.vector, measure, nearest)
    return IndexRecall(index=index, rows=len(rows), found=found)


def is_found(
    key: str, vector: npt.NDArray[np.floating], measure: Measure, nearest: Sequence[tuple[str, float]]
) -> bool:
    """Whether a row is among the rows nearest to its own vector, or ten others are as near."""
    own = -float(np.dot(vector, vector)) if measure.distance == "ip" else 0.0
    ties = len(nearest) == AMONG and nearest[-1][1] <= own + TIE * max(1.0, abs(own))
    return ties or key in {key for key, _ in nearest}
