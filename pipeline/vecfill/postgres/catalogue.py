"""Reads a table's columns, partitions and types from the system catalogue. Queries in, plain values out.

A new connection has an empty catalogue cache: each name, type, function and operator in a query costs two to four
buffers, each table and index about ten. So these queries compare values of the same type (``oid = regclass`` costs 230
buffers, because the server looks at every ``=`` operator), look up by index in scalar subqueries instead of joins, and
sort and group in Python: finding a type's default sort order costs 75 buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.postgres.indexes import Index


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A relation that holds rows: the table itself or a partition.

    Attributes:
        name: quoted, with its schema.
        only: exclude its children.
        pages: heap pages when the catalogue was read.
        oid: its identity.
        partial: names of the partial B-tree indexes that involve the embedding column.
        queue: it is no part of the target but its queue of changes or its queue table, which names rows of it by key.
        counted: the planner knows how many rows a page holds, from an ANALYZE, a vacuum or the build of an index.
    """

    name: sql.Composable
    only: bool
    pages: int
    oid: int = 0
    partial: tuple[str, ...] = ()
    queue: bool = False
    counted: bool = field(default=True, compare=False)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its number and its type."""

    name: str
    number: int
    oid: int
    typmod: int
    not_null: bool
    generated: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """A table or a partition.

    Attributes:
        oid, schema, name: its identity.
        kind: ``r`` for a table with rows, ``p`` for a partitioned table, ``f`` for a foreign table.
        pages, counted: as of a ``Leaf``.
        triggers: it may have triggers.
        may_read: this role may read it directly, without going through the parent, and sees the same rows then.
        column: number of the embedding column; a partition may have its columns in another order.
    """

    oid: int
    schema: str
    name: str
    kind: str
    pages: int
    counted: bool
    triggers: bool
    may_read: bool = True
    column: int = 0


@dataclass(frozen=True, kw_only=True)
class Table(Part):
    """A table that can be a target.

    Attributes:
        policies: row-level policies apply to this role.
        children: other tables may inherit from it.
    """

    policies: bool
    children: bool


USERS_TRIGGER: LiteralString = """((NOT tgisinternal OR tgparentid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
        AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.<) 150000)
      AND tgname::pg_catalog.text OPERATOR(pg_catalog.!~) '^vecfill_[0-9]+_(insert|edit|open|delete|truncate)$')"""
"""Condition: a row of ``pg_trigger`` is a user's trigger, not one of tracking, which changes no row of the target.
PostgreSQL 14 marks a partition's copy as internal."""

_TABLE = """
SELECT c.oid, (SELECT n.nspname FROM pg_catalog.pg_namespace AS n WHERE n.oid = c.relnamespace), c.relname, c.relkind,
       pg_catalog.pg_relation_size(c.oid), c.reltuples, c.relrowsecurity, c.relhastriggers, c.relhassubclass
FROM pg_catalog.pg_class AS c WHERE c.oid = pg_catalog.to_regclass($1)::pg_catalog.oid
"""
_POLICIES = "SELECT pg_catalog.row_security_active($1::pg_catalog.oid)"
_PARTITIONS = """
SELECT c.oid, (SELECT n.nspname FROM pg_catalog.pg_namespace AS n WHERE n.oid = c.relnamespace), c.relname, c.relkind,
       pg_catalog.pg_relation_size(c.oid), c.reltuples, c.relhastriggers,
       pg_catalog.has_table_privilege(c.oid, 'SELECT')
         AND NOT (c.relrowsecurity AND pg_catalog.row_security_active(c.oid)),
       (SELECT a.attnum FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attname = $2::pg_catalog.name)
FROM pg_catalog.pg_class AS c WHERE c.oid IN (
  SELECT p.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass) AS p)
"""
_NOT_A_TABLE = {
    "v": "a view: name the table that it reads",
    "m": "a materialized view: name the table that it reads",
    "f": "a foreign table: run on the server that holds it",
    "i": "an index: name its table",
    "S": "a sequence: name a table",
    "c": "a composite type: name a table",
}


def find_table(cursor: Any, table: str, block_bytes: int) -> Table:
    """Finds a table by its name in SQL notation.

    Raises:
        ConfigError: no such table, no right to see it, or not a table.
    """
    try:
        row = cursor.execute(_TABLE, (table,)).fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"--table {table}: {error.diag.message_primary}: GRANT USAGE ON SCHEMA to this role, or name another table"
        ) from error
    except (psycopg.errors.InvalidName, psycopg.errors.SyntaxError) as error:
        raise ConfigError(
            f"--table {table!r} is not a table name in SQL notation: write schema.table, with double quotes "
            'around a name with capitals or special characters: "Odd Schema"."order"'
        ) from error
    if row is None:
        raise ConfigError(
            f"--table {table}: there is no such table visible to this role: check schema and spelling "
            '(a name with capitals needs double quotes, "Jobs"), and --database'
        )
    oid, schema, name, kind, size, rows, secured, triggers, children = row
    if kind in _NOT_A_TABLE:
        raise ConfigError(f"--table {table} is {_NOT_A_TABLE[kind]}")
    return Table(
        oid=oid,
        schema=schema,
        name=name,
        kind=kind,
        pages=(size or 0) // block_bytes,  # NULL if it is dropped meanwhile
        counted=(rows or 0) > 0,
        policies=secured and cursor.execute(_POLICIES, (oid,)).fetchone()[0],
        triggers=triggers,
        children=children,
    )


def tree_of(cursor: Any, table: Table, column: Column | None, block_bytes: int) -> list[Part]:
    """Returns the table and its partitions at any depth, sorted by name.

    Args:
        cursor: in a transaction.
        table: the target's table.
        column: its embedding column, if it exists.
        block_bytes: size of a page.
    """
    if table.kind != "p":
        return [replace(table, column=column.number if column else 0)]
    tree = []
    found = cursor.execute(_PARTITIONS, (table.oid, column.name if column else "")).fetchall()
    for oid, schema, name, kind, size, rows, triggers, may_read, number in found:
        part = Part(
            oid=oid,
            schema=schema,
            name=name,
            kind=kind,
            pages=(size or 0) // block_bytes,
            counted=(rows or 0) > 0,
            triggers=triggers,
            may_read=may_read,
            column=number or 0,
        )
        tree.append(part)
    return sorted(tree, key=lambda one: (one.schema, one.name))


def leaves_of(table: Table, tree: Sequence[Part], indexes: Sequence[Index]) -> tuple[Leaf, ...]:
    """Returns the relations to scan.

    The whole tree is one leaf where policies apply or where the role may not read a partition directly: policies of a
    partition do not apply to a query of its parent.

    Raises:
        ConfigError: a partition is a foreign table.
    """
    for one in tree:
        if one.kind not in ("r", "p"):
            raise ConfigError(
                f"partition {one.schema}.{one.name} is a foreign table: run on its server, or name each other partition"
            )
    rows = [one for one in tree if one.kind == "r"]
    if table.kind == "p" and (table.policies or not all(one.may_read for one in rows)):
        pages = max((one.pages for one in rows), default=0)
        return (Leaf(name=sql.Identifier(table.schema, table.name), only=False, pages=pages, oid=table.oid),)
    return tuple(
        Leaf(
            name=sql.Identifier(one.schema, one.name),
            only=True,
            pages=one.pages,
            oid=one.oid,
            counted=one.counted,
            partial=tuple(index.name for index in indexes if index.table == one.oid and index.is_partial_on_column),
        )
        for one in rows
    )


_COLUMNS = """
SELECT a.attname, a.attnum, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated
FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = $1::pg_catalog.oid AND NOT a.attisdropped
"""


def columns_of(cursor: Any, oid: int) -> dict[str, Column]:
    """Returns the table's columns by name, in table order."""
    found = [
        Column(
            name=name,
            number=number,
            oid=type_oid,
            typmod=typmod,
            not_null=not_null,
            generated=generated.strip("\0") != "",
        )
        for name, number, type_oid, typmod, not_null, generated in cursor.execute(_COLUMNS, (oid,)).fetchall()
        if number > 0  # the others are system columns such as ctid
    ]
    return {column.name: column for column in sorted(found, key=lambda column: column.number)}


def type_name(cursor: Any, column: Column) -> str:
    """Returns the column's type as SQL, for messages."""
    query = "SELECT pg_catalog.format_type($1::pg_catalog.oid, $2::pg_catalog.int4)"
    return str(cursor.execute(query, (column.oid, column.typmod)).fetchone()[0])
