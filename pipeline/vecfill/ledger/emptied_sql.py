"""The statements on rows that have a vector but no text any more. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecfill.ledger.queue_sql import entry_within, has_origin, is_emptied
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.read_sql import leaf_source, within
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import Query, assignments, target, where


def clear_emptied(selection: Selection, relation: Relation, bounds: Sequence[str]) -> Query:
    """Clears the vectors of queued rows whose text became empty, and returns their number; skips locked rows."""
    tracking = relation.ledger
    return sql.SQL(_CLEAR).format(
        keys=tracking.target_keys(relation.table.alias),
        changes=tracking.changes,
        vectors=tracking.vectors,
        source=target(relation),
        queued=tracking.is_row(relation.table.alias, "vecfill_c"),
        chosen=tracking.is_row(relation.table.alias, "vecfill_e"),
        known=has_origin(relation),
        within=entry_within(bounds),
        emptied=is_emptied(selection, relation),
        alias=sql.Identifier(relation.table.alias),
        assignments=assignments(relation, sql.NULL),
        cleared=tracking.same_key("vecfill_v", "vecfill_u"),
    )


_CLEAR = """
WITH vecfill_e AS MATERIALIZED (
  SELECT {keys} FROM {changes} AS vecfill_c JOIN {source} ON {queued}
  WHERE {within} AND {known} AND {emptied} FOR NO KEY UPDATE OF {alias} SKIP LOCKED),
vecfill_u AS (
  UPDATE {source} SET {assignments} FROM vecfill_e WHERE {chosen} AND {emptied} RETURNING {keys}),
vecfill_o AS (
  DELETE FROM {vectors} AS vecfill_v USING vecfill_u WHERE {cleared})
SELECT pg_catalog.count(*) FROM vecfill_u
"""


def queue_emptied(selection: Selection, relation: Relation, leaf: Leaf, bounds: Sequence[str]) -> Query:
    """Queues the rows of a leaf, within bounds, whose text became empty, for ``clear_emptied``."""
    tracking = relation.ledger
    emptied = sql.SQL("{} OPERATOR(pg_catalog.=) 'emptied' AND {}").format(
        selection.state(relation, None), where(relation)
    )
    return sql.SQL("INSERT INTO {} ({}, kind) SELECT {}, 'U' FROM {}\nWHERE {}").format(
        tracking.changes,
        tracking.key_columns,
        tracking.target_keys(relation.table.alias),
        leaf_source(leaf, relation),
        within(emptied, relation, leaf, bounds, 1),
    )
