"""What the system catalogue says: tables, columns, unique indexes, partitions. Queries in, plain values out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from vecfill.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A relation that holds rows: the table itself or a partition.

    Attributes:
        name: quoted, with its schema.
        only: keep its children out.
        pages: heap pages when the catalogue was read.
        partial: partial B-tree indexes that have to do with the embedding column, by name.
    """

    name: sql.Composable
    only: bool
    pages: int
    partial: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its type in full, the type under all domains, what makes its binary field (empty: nothing does).

    ``oid`` is the type's, ``array`` the type of arrays over it (empty: there is none).
    """

    name: str
    type: str
    base: str
    send: str
    typmod: int
    generated: bool
    oid: int
    array: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that can be a target; ``policies`` where row-level policies apply to this role."""

    oid: int
    schema: str
    name: str
    kind: str
    policies: bool


@dataclass(frozen=True, kw_only=True)
class UniqueIndex:
    """A unique index that tells rows apart for sure: its columns, and its own equality operator for each."""

    columns: tuple[str, ...]
    operators: tuple[str, ...]
    primary: bool


USERS_TRIGGER: LiteralString = """(NOT tgisinternal OR tgparentid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
        AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.<) 150000)"""
"""A row of ``pg_trigger`` is a trigger of the user's: PostgreSQL 14 calls a partition's copy of one internal."""

_TABLE = """
SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text,
       pg_catalog.row_security_active(c.oid)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = pg_catalog.to_regclass($1)
"""
_NOT_A_TABLE = {
    "v": "a view: name the table under it",
    "m": "a materialized view: name the table under it",
    "f": "a foreign table: run on the server that holds it",
    "i": "an index: name its table",
    "S": "a sequence: name a table",
    "c": "a composite type: name a table",
}


def find_table(cursor: Any, table: str) -> Table:
    """Finds a table by its name in SQL notation.

    Raises:
        ConfigError: there is none, or it is something else than a table.
    """
    try:
        row = cursor.execute(_TABLE, (table,)).fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"--table {table}: {error.diag.message_primary}: GRANT USAGE ON SCHEMA to this role, or name another table"
        ) from error
    except (psycopg.errors.InvalidName, psycopg.errors.SyntaxError) as error:
        raise ConfigError(
            f"--table {table!r} is not a table's name in SQL notation: write schema.table, "
            'with double quotes around a name of capitals or odd characters: "Odd Schema"."order"'
        ) from error
    if row is None:
        raise ConfigError(
            f"--table {table}: there is no such table that this role may see: check schema and spelling "
            '(a name with capitals needs double quotes, "Jobs"), and --database'
        )
    found = Table(**dict(zip(("oid", "schema", "name", "kind", "policies"), row, strict=True)))
    if found.kind in _NOT_A_TABLE:
        raise ConfigError(f"--table {table} is {_NOT_A_TABLE[found.kind]}")
    return found


_COLUMNS = """
SELECT a.attname::pg_catalog.text, pg_catalog.format_type(a.atttypid, a.atttypmod), b.name,
       CASE WHEN t.typsend::pg_catalog.oid <> 0
            THEN pg_catalog.quote_ident(pn.nspname) || '.' || pg_catalog.quote_ident(p.proname) ELSE '' END,
       CASE WHEN t.typtype = 'd' THEN b.typmod ELSE a.atttypmod END, a.attgenerated <> '', t.oid,
       CASE WHEN t.typarray <> 0
            THEN pg_catalog.quote_ident(vn.nspname) || '.' || pg_catalog.quote_ident(v.typname) ELSE '' END
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
CROSS JOIN LATERAL (
  WITH RECURSIVE under AS (
    SELECT t.oid, t.typname, t.typtype, t.typbasetype, t.typtypmod AS typmod
    UNION ALL
    SELECT d.oid, d.typname, d.typtype, d.typbasetype,
           CASE WHEN d.typtype = 'd' THEN d.typtypmod ELSE u.typmod END
    FROM under AS u JOIN pg_catalog.pg_type AS d ON d.oid = u.typbasetype WHERE u.typtype = 'd')
  SELECT typname::pg_catalog.text AS name, typmod FROM under WHERE typtype <> 'd') AS b
LEFT JOIN pg_catalog.pg_proc AS p ON p.oid = t.typsend
LEFT JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_type AS v ON v.oid = t.typarray
LEFT JOIN pg_catalog.pg_namespace AS vn ON vn.oid = v.typnamespace
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""


def columns_of(cursor: Any, oid: int) -> dict[str, Column]:
    """The table's columns by name, in its order."""
    names = ("name", "type", "base", "send", "typmod", "generated", "oid", "array")
    found = (Column(**dict(zip(names, row, strict=True))) for row in cursor.execute(_COLUMNS, (oid,)).fetchall())
    return {column.name: column for column in found}


_INDEXES = """
SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.position), i.indisprimary,
       i.indisunique AND i.indimmediate AND i.indisvalid AND i.indisready AND i.indpred IS NULL
         AND pg_catalog.bool_and(a.attnum IS NOT NULL AND a.attnotnull) AS usable,
       pg_catalog.array_agg('OPERATOR(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')'
                            ORDER BY k.position)
FROM pg_catalog.pg_index AS i
CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]),
                              pg_catalog.unnest(i.indclass::pg_catalog.oid[]))
  WITH ORDINALITY AS k (attnum, opclass, position)
LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum <> 0
LEFT JOIN pg_catalog.pg_opclass AS c ON c.oid = k.opclass
LEFT JOIN pg_catalog.pg_amop AS m ON m.amopfamily = c.opcfamily AND m.amopstrategy = 3
  AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
LEFT JOIN pg_catalog.pg_operator AS o ON o.oid = m.amopopr
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace
WHERE i.indrelid = $1 AND i.indisunique AND k.position <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisprimary, i.indisunique, i.indimmediate, i.indisvalid, i.indisready, i.indpred
ORDER BY i.indisprimary DESC, i.indexrelid
"""


def unique_indexes(cursor: Any, oid: int) -> list[UniqueIndex]:
    """The unique indexes that are valid, immediate, whole and over NOT NULL columns, the primary key's first."""
    return [
        UniqueIndex(columns=tuple(names), operators=tuple(operators), primary=primary)
        for names, primary, usable, operators in cursor.execute(_INDEXES, (oid,)).fetchall()
        if usable
    ]


def present_dimension(cursor: Any, column: str, table: sql.Composable) -> int | None:
    """The dimension of a vector that is already there, where the column's type declares none."""
    query = sql.SQL("SELECT pg_catalog.cardinality({}::pg_catalog.float4[]) FROM {} WHERE {} IS NOT NULL LIMIT 1")
    row = cursor.execute(query.format(sql.Identifier(column), table, sql.Identifier(column)), ()).fetchone()
    return row[0] if row else None


_LEAVES = """
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text,
       (pg_catalog.pg_relation_size(c.oid)
         / pg_catalog.current_setting('block_size')::pg_catalog.int8)::pg_catalog.int4,
       pg_catalog.has_table_privilege(c.oid, 'SELECT'),
       ARRAY(SELECT x.relname::pg_catalog.text
             FROM pg_catalog.pg_index AS i
             JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
             JOIN pg_catalog.pg_am AS m ON m.oid = x.relam AND m.amname = 'btree'
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = $2
             JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
               AND d.objid = x.oid AND d.refclassid = d.classid AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
             WHERE i.indrelid = c.oid AND i.indisvalid AND i.indisready AND i.indpred IS NOT NULL
             ORDER BY 1)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = $1 OR c.oid IN (
  SELECT p.relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass) AS p WHERE p.isleaf)
ORDER BY 1, 2
"""


def leaves_of(cursor: Any, table: Table, column: str) -> tuple[Leaf, ...]:
    """What to scan. Where policies apply or a partition may not be read by itself, the whole tree counts as one.

    Args:
        cursor: in a transaction.
        table: the target's table.
        column: its embedding column.

    Raises:
        ConfigError: a partition is a foreign table.
    """
    found = cursor.execute(_LEAVES, (table.oid, column)).fetchall()
    for schema, name, kind, *_ in found:
        if kind not in ("r", "p"):
            raise ConfigError(
                f"partition {schema}.{name} is a foreign table: run on its server, or on the other partitions"
            )
    leaves = [
        (Leaf(name=sql.Identifier(schema, name), only=True, pages=pages, partial=tuple(partial)), may)
        for schema, name, kind, pages, may, partial in found
        if kind == "r"
    ]
    if table.kind == "p" and (table.policies or not all(may for _, may in leaves)):
        pages = max((leaf.pages for leaf, _ in leaves), default=0)
        return (Leaf(name=sql.Identifier(table.schema, table.name), only=False, pages=pages),)
    return tuple(leaf for leaf, _ in leaves)


_VECTOR_INDEXES = """
SELECT DISTINCT x.relname::pg_catalog.text
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_am AS m ON m.oid = x.relam
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = $2
JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.objid = x.oid AND d.refclassid = d.classid AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum
WHERE (i.indrelid = $1 OR i.indrelid IN (
    SELECT p.relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass) AS p))
  AND x.relkind = 'i' AND i.indisready
  AND m.amname NOT IN ('btree', 'hash', 'gin', 'gist', 'spgist', 'brin')
ORDER BY 1
"""


def vector_indexes(cursor: Any, table: Table, column: str) -> tuple[str, ...]:
    """Names of the vector indexes of the table and its partitions that hold the embedding column."""
    return tuple(name for (name,) in cursor.execute(_VECTOR_INDEXES, (table.oid, column)).fetchall())


def may_make_temporary_tables(cursor: Any) -> bool:
    """Whether this role has TEMPORARY on this database."""
    row = cursor.execute(
        "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')", ()
    ).fetchone()
    return bool(row[0])
