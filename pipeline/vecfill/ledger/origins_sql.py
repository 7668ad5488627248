"""The statements that change what the ledger says of vectors that stay as they are. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.read_sql import leaf_source, within
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import UNKNOWN, Selection
from vecfill.postgres.target_sql import Query, column, is_zero, target, where
from vecfill.postgres.template import hash_expression
from vecfill.postgres.tracking import UNKNOWN_MODEL


def adopt(selection: Selection, relation: Relation, leaf: Leaf, bounds: Sequence[str]) -> Query:
    """Enters the vectors of unknown origin in a part of a leaf as this run's model's, of their texts as they are now.

    Not those of rows that an entry of the queue names in the same snapshot: they were edited since tracking began.
    """
    tracking = relation.ledger
    return sql.SQL(
        "INSERT INTO {vectors} ({columns}, model, text_hash)\nSELECT {keys}, {model}, {hash} FROM {source}\n"
        "WHERE {selected} AND NOT {missing} AND NOT {blank} AND {adoptable} AND {held}\n"
        "ON CONFLICT DO NOTHING"
    ).format(
        vectors=tracking.vectors,
        columns=tracking.key_columns,
        keys=tracking.target_keys(relation.table.alias),
        model=sql.Literal(tracking.model),
        hash=hash_expression(relation.user_sql.text),
        source=leaf_source(leaf, relation),
        selected=within(where(relation), relation, leaf, bounds, 1),
        missing=selection.missing(relation),
        blank=relation.user_sql.blank,
        adoptable=adoptable(selection, relation),
        held=tracking.held,
    )


def adoptable(selection: Selection, relation: Relation) -> sql.Composed:
    """Condition: the row's vector is of unknown origin, no placeholder, and its text was not edited since tracking."""
    if selection.refresh is None:
        raise ValueError("the origin of a vector is known by a selection of a tracked target only")
    tracking = relation.ledger
    return sql.SQL(
        "({state} OPERATOR(pg_catalog.=) {unknown} AND NOT {zero}\n"
        "  AND NOT EXISTS (SELECT FROM {changes} AS vecfill_c WHERE {queued}))"
    ).format(
        state=selection.refresh(relation),
        unknown=sql.Literal(UNKNOWN),
        zero=is_zero(relation),
        changes=tracking.changes,
        queued=tracking.is_row(relation.table.alias, "vecfill_c"),
    )


def distrust(selection: Selection, relation: Relation) -> Query:
    """Makes the row with the key ``$1``, … count as changed, and queues it; its vector stays until a run replaces it.

    The parameters are texts without a type: the key's own operators say what they are.
    """
    tracking = relation.ledger
    is_row = sql.SQL(" AND ").join(
        sql.SQL("{} {} {}").format(column(relation, name), equals, sql.SQL(f"${number}"))
        for number, (name, equals) in enumerate(tracking.key, 1)
    )
    return sql.SQL(_DISTRUST).format(
        keys=tracking.target_keys(relation.table.alias),
        source=target(relation),
        is_row=is_row,
        missing=selection.missing(relation),
        vectors=tracking.vectors,
        changes=tracking.changes,
        columns=tracking.key_columns,
        unknown=sql.Literal(UNKNOWN_MODEL),
    )


_DISTRUST = """
WITH vecfill_k AS (SELECT {keys} FROM {source} WHERE {is_row} AND NOT {missing}),
vecfill_o AS (
  INSERT INTO {vectors} ({columns}, model, text_hash) SELECT vecfill_k.*, {unknown}, ''::pg_catalog.bytea FROM vecfill_k
  ON CONFLICT ({columns}) DO UPDATE SET model = EXCLUDED.model, text_hash = EXCLUDED.text_hash)
INSERT INTO {changes} ({columns}, kind) SELECT vecfill_k.*, 'O' FROM vecfill_k
"""
