"""Whether each vector index of the new column finds rows by their own vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from psycopg import sql

from vecfill.postgres import search_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.index_scan import configure_scan, index_used
from vecfill.postgres.relation import Relation
from vecfill.postgres.target_sql import numbers, target_sample
from vecfill.postgres.template import verbatim_sql
from vecfill.postgres.transaction import transaction
from vecfill.vector_search import comparison
from vecfill.verification.index_recall import AMONG, THROUGH_INDEX, IndexRecall, is_found

SEARCHED_ROWS = 50

RANDOM_PAGES = 200
"""Pages from which sampled rows come."""


@dataclass(frozen=True, kw_only=True)
class OwnSearches:
    """Searches for rows by their own vectors, index by index.

    Attributes:
        found: for each index, how many of its rows it found.
        not_searched: why an index was left out, a sentence each.
    """

    found: tuple[IndexRecall, ...]
    not_searched: tuple[str, ...]


def own_searches(connection: Connection, relation: Relation) -> OwnSearches:
    """Searches through each vector index for a sample of the rows that it has, partial ones too."""
    schema, _ = comparison(connection, relation)
    with transaction(connection, {"search_path": ""}, read_only=True) as cursor:
        rows = cursor.execute(_INDEXES, (list(relation.table.tree), relation.table.oid)).fetchall()
    names = {index.name for index in relation.table.indexes if index.is_for_vectors and index.valid and index.ready}
    found, left = list[IndexRecall](), list[str]()
    for name, opclass, column, expression, condition, whole in rows:
        if name not in names:
            continue
        measure = search_sql.measure_of(relation, [(name, opclass, column, expression)])
        if not whole or measure.index is None:
            reason = "it is on a partition alone" if not whole else f"a search by {expression or opclass} is not known"
            left.append(f"index {name} was not searched: {reason}")
            continue
        only = verbatim_sql(condition) if condition else None
        searched = replace(relation, user_sql=replace(relation.user_sql, where=only))
        recall = _searched(connection, searched, schema, measure)
        if isinstance(recall, IndexRecall):
            found.append(recall)
        else:
            left.append(f"index {name} was not searched: {recall}")
    return OwnSearches(found=tuple(found), not_searched=tuple(left))


def _searched(
    connection: Connection, relation: Relation, schema: str, measure: search_sql.Measure
) -> IndexRecall | str:
    """How many of a sample were found, or why the index was not searched."""
    query = search_sql.nearest(relation, schema, measure, ())
    with transaction(connection, relation.access.reading | THROUGH_INDEX, read_only=True) as cursor:
        rows: list[tuple[Any, ...]] = cursor.execute(_sample(relation), (SEARCHED_ROWS,)).fetchall()
        if not rows:
            return "it has no rows"
        configure_scan(cursor, schema, AMONG)
        used = index_used(cursor, query, (rows[0][1], AMONG), relation, measure)
        if used is None or used != measure.index:
            return f"the server prefers {used or 'another plan'}"
        found = sum(
            is_found(key, np.asarray(vector, np.float32), measure, cursor.execute(query, (vector, AMONG)).fetchall())
            for key, vector in rows
        )
    return IndexRecall(index=used, rows=len(rows), found=found)


def _sample(relation: Relation) -> sql.Composed:
    """Selects key and vector of up to ``$1`` random rows that have a vector and meet the condition."""
    return sql.SQL(
        "SELECT {}, {} FROM {} WHERE {} IS NOT NULL AND ({}) ORDER BY pg_catalog.random() LIMIT $1::pg_catalog.int8"
    ).format(
        *(search_sql.shown_key(relation), numbers(relation), target_sample(relation, sampled_percent(relation))),
        sql.Identifier(relation.table.alias, relation.table.vector.name),
        relation.user_sql.where or sql.SQL("true"),
    )


def sampled_percent(relation: Relation) -> float | None:
    """The share of the table's pages to sample; None for all."""
    pages = sum(leaf.pages for leaf in relation.table.leaves)
    return 100.0 * RANDOM_PAGES / pages if pages > RANDOM_PAGES else None


_INDEXES = """
SELECT c.relname::pg_catalog.text, o.opcname::pg_catalog.text, a.attname::pg_catalog.text,
  pg_catalog.pg_get_expr(i.indexprs, i.indrelid), pg_catalog.pg_get_expr(i.indpred, i.indrelid),
  i.indrelid = $2::pg_catalog.oid
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_opclass AS o ON o.oid = i.indclass[0]
LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND i.indkey[0] <> 0
WHERE i.indrelid = ANY ($1::pg_catalog.oid[])
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS h WHERE h.inhrelid = i.indexrelid)
ORDER BY c.relname
"""
