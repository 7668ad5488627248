"""The statement that reads stored vectors to compare them with vectors made again. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.read_sql import place_bound
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import Query, column, key_text, leaf_rows, numbers, target, where
from vecfill.postgres.template import hash_expression


def sample_rows(selection: Selection, relation: Relation, *, percent: float | None) -> Query:
    """Selects up to ``$1`` random rows with a vector and a text; ``percent`` limits it to a sample of the pages."""
    tablesample = sql.SQL("" if percent is None else " TABLESAMPLE SYSTEM ({})").format(
        *([] if percent is None else [percent])
    )
    return sql.SQL("{} ORDER BY pg_catalog.random() LIMIT $1::pg_catalog.int8").format(
        _rows(selection, relation, sql.SQL("{}{}").format(target(relation), tablesample), sql.SQL("true"))
    )


def range_rows(selection: Selection, relation: Relation, leaf: Leaf, bounds: Sequence[str]) -> Query:
    """Selects all rows of a part of a leaf with a vector and a text; one parameter for each bound."""
    place = column(relation, "ctid")
    within = [place_bound(bound, place, number) for number, bound in enumerate(bounds, 1)]
    return _rows(selection, relation, leaf_rows(relation, leaf), sql.SQL(" AND ").join([*within, sql.SQL("true")]))


def _rows(selection: Selection, relation: Relation, source: sql.Composable, within: sql.Composable) -> Query:
    """Result columns: key as text, each key column as text, text, vector, its model and whether it is of this text.

    The last two are of the ledger; NULL without an entry.
    """
    return sql.SQL(
        "SELECT {key}, ARRAY[{parts}]::pg_catalog.text[], {text}, {numbers}, {model}, {same_text}\nFROM {source}\n"
        "WHERE {within} AND NOT {missing} AND NOT {blank} AND {where}"
    ).format(
        key=key_text(relation),
        parts=sql.SQL(", ").join(
            sql.SQL("{}::pg_catalog.text").format(column(relation, part.name)) for part in relation.table.key
        ),
        text=relation.user_sql.text,
        numbers=numbers(relation),
        model=_recorded(relation, sql.SQL("vecfill_v.model")),
        same_text=_recorded(
            relation,
            sql.SQL("vecfill_v.text_hash OPERATOR(pg_catalog.=) {}").format(hash_expression(relation.user_sql.text)),
        ),
        source=source,
        within=within,
        missing=selection.missing(relation),
        blank=relation.user_sql.blank,
        where=where(relation),
    )


def _recorded(relation: Relation, expression: sql.Composable) -> sql.Composable:
    if relation.tracking is None:
        return sql.SQL("NULL")
    tracking = relation.tracking
    return sql.SQL("(SELECT {} FROM {} AS vecfill_v WHERE {})").format(
        expression, tracking.vectors, tracking.is_row(relation.table.alias, "vecfill_v")
    )
