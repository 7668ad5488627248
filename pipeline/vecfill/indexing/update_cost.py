"""Measures what an update of a vector costs, on a few rows, in a transaction that is rolled back.

It takes only rows that nobody has locked, gives them random vectors twice, and reads what the server says of the second
time. Other sessions may wait for these rows until it is rolled back, two seconds at most.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.relation import Relation
from vecfill.postgres.server import time_limits
from vecfill.postgres.target_sql import Query, assignments, embedding, where
from vecfill.postgres.tracking import NESTED_LOOPS
from vecfill.postgres.transaction import transaction

ROWS = 10
LOCK_MS, STATEMENT_MS = 300, 1_000


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the server says of the update of some rows.

    Attributes:
        rows: that were to be updated.
        updated: that were.
        kept: that then held the vector that was written.
        ms: per updated row, with the triggers.
        triggers: milliseconds per row by trigger.
        blocks: blocks of each index that were looked at per row; an update that is HOT looks at none.
    """

    rows: int
    updated: int
    kept: int
    ms: float
    triggers: dict[str, float]
    blocks: dict[str, float]


def measured(connection: Connection, relation: Relation) -> Measured | None:
    """Measures the update of up to ``ROWS`` rows of the biggest leaf; None if there is no row to update.

    Args:
        connection: to the target's database.
        relation: the target.

    Raises:
        psycopg.Error: the server refuses the update, or it takes too long.
    """
    leaf = max(relation.table.leaves, key=lambda one: one.pages, default=None)
    if leaf is None or not relation.table.vector.dim or not (leaf.only or relation.table.plain):
        return None
    limits = time_limits(relation.access.server, LOCK_MS, STATEMENT_MS)
    with transaction(connection, {**relation.locking, **NESTED_LOOPS, **limits}) as cursor:
        (kind,) = cursor.execute(COLUMN_TYPE, (relation.table.oid, relation.table.vector.name)).fetchone() or ("",)
        places = [place for (place,) in cursor.execute(_free_rows(relation, leaf), (ROWS,)).fetchall()]
        update = _update(relation, leaf, kind)
        found = _measured(cursor, update, relation.table.vector.dim, places, leaf.oid) if places else None
        cursor.connection.rollback()
    return found


COLUMN_TYPE = """
SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) AS type FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = $1::pg_catalog.oid AND a.attname = $2::pg_catalog.name
"""
"""The type of a table's column, as the server writes it."""


INDEX_BLOCKS = """
SELECT c.relname::pg_catalog.text, pg_catalog.pg_stat_get_xact_blocks_fetched(i.indexrelid)
FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
WHERE i.indrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
"""
"""Blocks of each index of a table that the current transaction has looked at, whether in memory or not."""


def _measured(cursor: Cursor, update: Query, dim: int, places: list[str], table: int) -> Measured:
    written = cursor.execute(update, (places, _vectors(dim, len(places)))).fetchall()
    again = [place for place, _ in written]
    plan: dict[str, Any] = {}
    before = _index_blocks(cursor, table)
    if again:
        query = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + update
        row = cursor.execute(query, (again, _vectors(dim, len(again)))).fetchone()
        plan = row[0][0] if row else {}
    rows = max(1, len(again))
    after = _index_blocks(cursor, table)
    return Measured(
        rows=len(places),
        updated=len(written),
        kept=sum(kept for _, kept in written),
        ms=plan.get("Execution Time", 0.0) / rows,
        triggers={one["Trigger Name"]: one["Time"] / rows for one in plan.get("Triggers", ())},
        blocks={name: (count - before.get(name, 0)) / rows for name, count in after.items()},
    )


def _index_blocks(cursor: Cursor, table: int) -> dict[str, int]:
    """Returns the blocks that this transaction has looked at, by index of the table."""
    return dict(cursor.execute(INDEX_BLOCKS, (table,)).fetchall())


def _vectors(dim: int, count: int) -> list[str]:
    """Different vectors as arrays in text form: pgvector stores equal ones once."""
    return [f"{{{','.join(f'{random.uniform(-1, 1):.4f}' for _ in range(dim))}}}" for _ in range(count)]  # noqa: S311


def _free_rows(relation: Relation, leaf: Leaf) -> Query:
    """Locks some rows that nobody holds."""
    return sql.SQL(
        "SELECT {alias}.ctid::pg_catalog.text FROM {source} WHERE {where}\n"
        "LIMIT $1::pg_catalog.int8 FOR NO KEY UPDATE SKIP LOCKED"
    ).format(alias=sql.Identifier(relation.table.alias), source=_source(relation, leaf), where=where(relation))


def _update(relation: Relation, leaf: Leaf, kind: str) -> Query:
    """Updates rows as a run does; returns their new places, and whether they hold what was written.

    ``kind`` is the column's type as the server writes it.
    """
    value = sql.SQL("vecfill_m.value::pg_catalog._float4::{}").format(sql.SQL(kind))
    return sql.SQL(
        "UPDATE {source} SET {assignments}\n"
        "FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]))\n"
        "  AS vecfill_m (place, value)\n"
        "WHERE {alias}.ctid OPERATOR(pg_catalog.=) vecfill_m.place::pg_catalog.tid\n"
        "RETURNING {alias}.ctid::pg_catalog.text, COALESCE(\n"
        "  {embedding}::pg_catalog.text OPERATOR(pg_catalog.=) {value}::pg_catalog.text, false)"
    ).format(
        source=_source(relation, leaf),
        assignments=assignments(relation, value),
        alias=sql.Identifier(relation.table.alias),
        embedding=embedding(relation),
        value=value,
    )


def _source(relation: Relation, leaf: Leaf) -> sql.Composed:
    return sql.SQL("ONLY {} AS {}").format(leaf.name, sql.Identifier(relation.table.alias))
