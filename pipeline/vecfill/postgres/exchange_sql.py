"""The renames with which two columns, and their indexes, change places. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psycopg import sql

from vecfill.postgres.migrate_sql import suffixed
from vecfill.postgres.relation import Relation
from vecfill.postgres.tracking import Tracking

OLD, NEXT = "_old", "_next"
"""Suffixes of the names that make room for the application's own."""


def rename_column(relation: Relation, name: str, new: str) -> sql.Composed:
    """Gives a column another name."""
    return sql.SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(
        relation.table.name, sql.Identifier(name), sql.Identifier(new)
    )


def exchange_indexes(
    rows: list[tuple[Any, ...]], own: set[tuple[int, str]], to: str, of: str
) -> Iterator[sql.Composed]:
    """Yields the renames of the indexes that have a twin.

    Args:
        rows: of ``migrate_sql.INDEXES``.
        own: table and name of the indexes on the column that gives up its name.
        to: suffix that their names get.
        of: suffix of the names of their twins now.
    """
    named = {(row[2], row[1]): row for row in rows}
    for (schema, name), row in named.items():
        twin = named.get((schema, suffixed(name, of)))
        if (row[3], name) in own and twin is not None:
            yield _rename_index(schema, name, suffixed(name, to))
            yield _rename_index(schema, twin[1], name)


def _rename_index(schema: str, name: str, new: str) -> sql.Composed:
    return sql.SQL("ALTER INDEX {} RENAME TO {}").format(sql.Identifier(schema, name), sql.Identifier(new))


CONSTRAINTS = """
SELECT c.conname::pg_catalog.text, c.convalidated
FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) c.conrelid
WHERE c.conrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND c.contype IN ('c', 'n')
  AND c.conislocal AND a.attname OPERATOR(pg_catalog.=) $2::pg_catalog.text
  AND a.attnum OPERATOR(pg_catalog.=) ANY (c.conkey) ORDER BY 1
"""
"""Name and validity of the constraints on a column: CHECK, and from version 18 NOT NULL."""


def exchange_constraints(
    relation: Relation, own: list[str], twins: list[str], to: str, of: str
) -> Iterator[sql.Composed]:
    """Yields the renames of the constraints that have a twin; the arguments are as for ``exchange_indexes``."""
    for name in own:
        if suffixed(name, of) in twins:
            yield _rename_constraint(relation, name, suffixed(name, to))
            yield _rename_constraint(relation, suffixed(name, of), name)


def _rename_constraint(relation: Relation, name: str, new: str) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(
        relation.table.name, sql.Identifier(name), sql.Identifier(new)
    )


def without_new_vector(relation: Relation, old: str, new: str, *, placeholders: bool) -> sql.Composed:
    """Counts the rows that have an old vector and no new one; with ``placeholders`` a vector of zeros is none."""
    alias = relation.table.alias
    lacks = sql.SQL(
        "{0} IS NULL OR 0::pg_catalog.float8 OPERATOR(pg_catalog.=) ALL ({0}::pg_catalog.float4[])"
        if placeholders
        else "{0} IS NULL"
    )
    return sql.SQL("SELECT pg_catalog.count(*) FROM {} AS {} WHERE NOT ({}) AND ({})").format(
        relation.table.name,
        sql.Identifier(alias),
        *(lacks.format(sql.Identifier(alias, name)) for name in (old, new)),
    )


def changed_keys(tracking: Tracking) -> sql.Composed:
    """Selects the keys of up to ``$1`` rows that are queued, as text, but for deleted ones."""
    key = sql.SQL(" OPERATOR(pg_catalog.||) ', ' OPERATOR(pg_catalog.||) ").join(
        sql.SQL("{}::pg_catalog.text").format(sql.Identifier(name)) for name in tracking.key_names
    )
    return sql.SQL(
        "SELECT DISTINCT {} FROM {} WHERE kind OPERATOR(pg_catalog.=) ANY ('{{I,U,O,R}}'::pg_catalog.\"char\"[]) "
        "ORDER BY 1 LIMIT $1::pg_catalog.int8"
    ).format(key, tracking.changes)
