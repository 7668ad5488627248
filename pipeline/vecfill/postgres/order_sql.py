"""The statements that list eligible rows in an order that the user gives as SQL. Pure, as ``read_sql``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.read_sql import leaf_source, place, within
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import Query, column, target

FETCH = sql.SQL("FETCH FORWARD {} FROM vecfill_order")
"""Reads on in the cursor that ``declare`` made."""

_LIMIT = sql.SQL("$1::pg_catalog.int8").format()


def declare(
    selection: Selection, relation: Relation, order: sql.Composable, leaf: Leaf, bounds: Sequence[str]
) -> Query:
    """Declares a cursor over the eligible rows in an order; fetch from it in the same transaction.

    ``$1`` is the row limit; one parameter for each bound follows. Columns: oid of the leaf, place, bytes of text.

    Args:
        selection: the rows to take.
        relation: the target.
        order: what follows ORDER BY; ties come in any order.
        leaf: the queue, for the rows that it names, and their places in it; any other: all leaves of the target.
        bounds: some of ``at``, ``part`` and ``excluded``; ``at`` for a target of one leaf.
    """
    query = _ordered(selection, relation, order, leaf, bounds=bounds, limit=_LIMIT)
    return sql.SQL("DECLARE vecfill_order NO SCROLL CURSOR FOR\n{}").format(query)


def explain(selection: Selection, relation: Relation, order: sql.Composable, limit: int | None) -> Query:
    """Explains as JSON how the server would list the rows of the whole target: whether an index gives the order."""
    query = _ordered(selection, relation, order, relation.table.leaves[0], bounds=(), limit=sql.Literal(limit))
    return sql.SQL("EXPLAIN (FORMAT JSON)\n{}").format(query)


def list_places(selection: Selection, relation: Relation, leaf: Leaf, bounds: Sequence[str]) -> Query:
    """Selects the places of the eligible rows within bounds, which have one parameter each."""
    return sql.SQL("SELECT {} FROM {}\nWHERE {}").format(
        place(relation, leaf),
        leaf_source(leaf, relation, bounds, 1),
        within(selection.eligible(relation), relation, leaf, bounds, 1),
    )


def order_checks(selection: Selection, relation: Relation, order: sql.Composable) -> Iterator[Query]:
    """Yields EXPLAINs that the server refuses unless ``order`` is a list of sort keys, and nothing besides.

    Alone, brackets must match and ``1`` is no column. An aggregate refuses LIMIT and FOR UPDATE after its keys, and in
    them aggregates and functions that return several rows. The last one needs the rights of the statement itself.
    """
    yield sql.SQL("EXPLAIN SELECT FROM {} ORDER BY {}").format(target(relation), order)
    yield sql.SQL("EXPLAIN SELECT pg_catalog.array_agg(true ORDER BY\n{}\n) FROM {}").format(order, target(relation))
    yield explain(selection, relation, order, None)


def _ordered(
    selection: Selection,
    relation: Relation,
    order: sql.Composable,
    leaf: Leaf,
    *,
    bounds: Sequence[str],
    limit: sql.Composable,
) -> Query:
    return sql.SQL(
        "SELECT {oid}::pg_catalog.int8 AS vecfill_leaf, {place} AS vecfill_place, {size} AS vecfill_bytes\n"
        "FROM {source}\nWHERE {conditions}\nORDER BY\n{order}\nLIMIT {limit}"
    ).format(
        oid=sql.Literal(leaf.oid) if leaf.queue or relation.table.plain else column(relation, "tableoid"),
        place=place(relation, leaf),
        size=relation.user_sql.size,
        source=leaf_source(leaf, relation) if leaf.queue else target(relation),
        conditions=within(selection.eligible(relation), relation, leaf, bounds, 2),
        order=order,
        limit=limit,
    )
