"""The twins of a column's indexes, planned from the catalogue."""

from __future__ import annotations

from typing import Any

from vecfill.postgres.database import Connection
from vecfill.postgres.migrate_sql import (
    INDEXES,
    NewColumn,
    Twin,
    suffixed,
    twin_definition,
)
from vecfill.postgres.relation import Relation, VectorColumn
from vecfill.postgres.transaction import transaction

SUFFIX = "_next"


def plan_twins(connection: Connection, relation: Relation, column: NewColumn) -> list[Twin]:
    """Returns the twins that the indexes on the target's embedding column need, in the order in which to build them.

    Indexes that are INVALID or unique have none.
    """
    with transaction(connection, {"search_path": ""}, read_only=True) as cursor:
        rows = cursor.execute(INDEXES, (list(relation.table.tree),)).fetchall()
        quote = "SELECT pg_catalog.format('%I', $1::pg_catalog.text)"
        (old,) = cursor.execute(quote, (relation.table.vector.name,)).fetchone() or ("",)
    wanted = {(index.table, index.name) for index in relation.table.indexes if index.on_column and not index.unique}
    found = {row[0]: row for row in rows if (row[3], row[1]) in wanted and row[9]}
    return [_twin(row, found, relation.table.vector, old, column) for row in found.values()]


def without_twin(relation: Relation) -> list[str]:
    """Names the indexes on the embedding column that get no twin, a sentence each."""
    return [
        f"index {index.name} is {'unique' if index.unique else 'INVALID'}, so it has no twin on the new column"
        for index in relation.table.indexes
        if index.on_column and (index.unique or not (index.valid and index.ready))
    ]


def _twin(
    row: tuple[Any, ...], found: dict[int, tuple[Any, ...]], vector: VectorColumn, old: str, column: NewColumn
) -> Twin:
    _, name, schema, table_oid, table, partitioned, parent, definition, quoted, _, space, comment, statistics = row
    above = found.get(parent)
    _, _, rest = definition.removeprefix(f"CREATE INDEX {quoted} ON ").partition(f"{table} ")
    return Twin(
        old=name,
        name=suffixed(name, SUFFIX),
        schema=schema,
        table=table,
        table_oid=table_oid,
        partitioned=partitioned,
        parent=suffixed(above[1], SUFFIX) if above else None,
        parent_schema=above[2] if above else None,
        rest=twin_definition(rest, old, vector.dim, vector.kind, column),
        column=column.name,
        tablespace=space,
        comment=comment,
        statistics=tuple((number, goal) for number, goal in statistics),
    )
