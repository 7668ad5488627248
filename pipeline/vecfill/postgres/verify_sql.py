"""The statement that reads stored vectors to compare them with vectors made again. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.read_sql import leaf_source, within
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection, recorded
from vecfill.postgres.target_sql import Query, column, key_text, numbers, target_sample, where
from vecfill.postgres.template import hash_expression


def random_rows(
    selection: Selection, relation: Relation, *, percent: float | None, only: sql.Composable | None = None
) -> Query:
    """Selects up to ``$1`` random rows with a vector and a text.

    ``percent`` limits it to a sample of the pages, and ``only`` to rows that meet a condition.
    """
    condition = _compared(selection, relation)
    if only is not None:
        condition = sql.SQL("{} AND {}").format(condition, only)
    return sql.SQL("{} ORDER BY pg_catalog.random() LIMIT $1::pg_catalog.int8").format(
        _rows(relation, target_sample(relation, percent), condition)
    )


def rows_of_part(selection: Selection, relation: Relation, leaf: Leaf, bounds: Sequence[str]) -> Query:
    """Selects the same from a leaf, all rows within bounds of ``read_sql``, which have one parameter each."""
    condition = within(_compared(selection, relation), relation, leaf, bounds, 1)
    return _rows(relation, leaf_source(leaf, relation), condition)


def _compared(selection: Selection, relation: Relation) -> sql.Composed:
    return sql.SQL("(NOT {} AND NOT {} AND {})").format(
        selection.missing(relation), relation.user_sql.blank, where(relation)
    )


def _rows(relation: Relation, source: sql.Composable, condition: sql.Composable) -> Query:
    """Result columns: key as text, each key column as text, text, vector, its model and whether it is of this text.

    The last two are of the ledger; NULL without an entry.
    """
    tracked = relation.tracking is not None
    parts = [sql.SQL("{}::pg_catalog.text").format(column(relation, part.name)) for part in relation.table.key]
    same_text = sql.SQL("vecfill_v.text_hash OPERATOR(pg_catalog.=) {}").format(hash_expression(relation.user_sql.text))
    return sql.SQL(
        "SELECT {key}, ARRAY[{parts}]::pg_catalog.text[], {text}, {numbers}, {model}, {same_text}\nFROM {source}\n"
        "WHERE {condition}"
    ).format(
        key=key_text(relation),
        parts=sql.SQL(", ").join(parts),
        text=relation.user_sql.text,
        numbers=numbers(relation),
        model=recorded(relation, sql.SQL("vecfill_v.model"), sql.NULL) if tracked else sql.NULL,
        same_text=recorded(relation, same_text, sql.NULL) if tracked else sql.NULL,
        source=source,
        condition=condition,
    )
