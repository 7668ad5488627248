"""The target: what the user named, and what the catalogue says it is. Read once, checked before the first row."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.postgres.session import Connection, transaction
from vecfill.postgres.template import Template, blank_expression, parse_template, raw, text_expression

VECTOR_KINDS = ("vector", "halfvec", "real[]")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A table and what is wanted of it, in the user's words.

    Attributes:
        table: in SQL notation, such as ``public.jobs`` or ``"Odd Schema"."order"``.
        text: a template (``{title} at {company}``) or one column's name; only reading what is there goes without.
        column: the embedding column, as the catalogue spells it.
        key: columns of a unique index, as the catalogue spells them; empty for the primary key.
        where: SQL condition that rows must meet.
        set: assignments made with the vector, such as ``updated_at = now()``.
        dim: dimension of a ``vector`` or ``real[]`` column that declares none.
    """

    table: str
    text: str | None = None
    column: str = "embedding"
    key: tuple[str, ...] = ()
    where: str | None = None
    set: tuple[str, ...] = ()
    dim: int | None = None


@dataclass(frozen=True, kw_only=True)
class KeyColumn:
    """A column of the key: ``send`` makes its binary field, ``equals`` is its index's own equality operator."""

    name: str
    send: sql.Composable
    equals: sql.Composable


@dataclass(frozen=True, kw_only=True)
class VectorColumn:
    """The embedding column: its name, one of ``VECTOR_KINDS``, and its dimension where anything tells it."""

    name: str
    kind: str
    dim: int | None


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A relation that holds rows: the table itself or a partition. ``only`` keeps its children out."""

    name: sql.Composable
    only: bool
    pages: int


@dataclass(frozen=True, kw_only=True)
class Relation:
    """The target as the catalogue describes it: everything that the statements are made of. Travels by pickle.

    Attributes:
        label: ``schema.table`` for messages and results.
        alias: the table's own name, which its rows go by in every statement, so that the user's SQL may use it.
        leaves: what to scan; one for a plain table.
        text: SQL of a row's text, never NULL.
        blank: SQL that is true where there is nothing to embed.
        where: the user's condition, or None.
        assignments: column and expression of each ``--set``.
        policies: row-level policies apply to this role.
        settings: what each of our transactions sets, beside the pinned.
    """

    label: str
    name: sql.Composable
    alias: str
    plain: bool
    key: tuple[KeyColumn, ...]
    vector: VectorColumn
    leaves: tuple[Leaf, ...]
    text: sql.Composable
    blank: sql.Composable
    where: sql.Composable | None
    assignments: tuple[tuple[str, sql.Composable], ...]
    policies: bool
    settings: dict[str, str]

    @property
    def arity(self) -> int:
        """Number of key columns."""
        return len(self.key)


@dataclass(frozen=True, kw_only=True)
class _Column:
    name: str
    type: str
    base: str
    send: str
    typmod: int
    generated: bool


def inspect(connection: Connection, target: Target, *, text_needed: bool = True) -> Relation:
    """Reads the catalogue and returns the target in full.

    Args:
        connection: to the target's database.
        target: what the user named.
        text_needed: refuse a target without a text; else its rows count as having an empty one that is not blank.

    Raises:
        ConfigError: no text where one is needed; no such table, key, column or field; a view or foreign table; a key that is not unique; a column
            that holds no vectors; SQL of the user's that does not parse.
    """
    with transaction(connection, read_only=True) as cursor:
        oid, schema, name, kind, policies = _table(cursor, target.table)
        columns = {column.name: column for column in _columns(cursor, oid)}
        template = _template(target, columns, text_needed)
        relation = Relation(
            label=f"{schema}.{name}",
            name=sql.Identifier(schema, name),
            alias=name,
            plain=kind == "r",
            key=_key(cursor, oid, target, columns),
            vector=_vector(cursor, target, columns, sql.Identifier(schema, name)),
            leaves=_leaves(cursor, oid, policies),
            text=text_expression(template, name) if template.parts else raw("''::pg_catalog.text"),
            blank=blank_expression(template, name, connection.info.parameter_status("server_encoding") or "UTF8")
            if template.parts
            else raw("false"),
            where=raw(target.where) if target.where and target.where.strip() else None,
            assignments=tuple(_assignment(text, columns, template, target) for text in target.set),
            policies=policies,
            settings=_timeouts(cursor),
        )
    return relation


def _template(target: Target, columns: dict[str, _Column], needed: bool) -> Template:
    if target.text is not None:
        return parse_template(target.text, columns)
    if needed:
        raise ConfigError(f"target {target.table} has no text: give a template such as '{{title}}', or a column's name")
    return Template(())


def with_dimension(relation: Relation, dim: int) -> Relation:
    """The same target, its embedding column's dimension settled."""
    return replace(relation, vector=replace(relation.vector, dim=dim))


def _one(cursor: Any, query: str, *values: Any) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = cursor.execute(query, values).fetchone()
    return row


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


def _table(cursor: Any, table: str) -> tuple[int, str, str, str, bool]:
    try:
        row = _one(cursor, _TABLE, table)
    except psycopg.Error as error:
        raise ConfigError(
            f"--table {table!r} is not a table's name in SQL notation: write schema.table, "
            'with double quotes around a name of capitals or odd characters: "Odd Schema"."order"'
        ) from error
    if row is None:
        raise ConfigError(
            f"--table {table}: there is no such table that this role may see: check schema and spelling "
            '(a name with capitals needs double quotes, "Jobs"), and --database'
        )
    oid, schema, name, kind, policies = row
    if kind in _NOT_A_TABLE:
        raise ConfigError(f"--table {table} is {_NOT_A_TABLE[kind]}")
    return oid, schema, name, kind, policies


_COLUMNS = """
SELECT a.attname::pg_catalog.text, pg_catalog.format_type(a.atttypid, a.atttypmod), b.typname::pg_catalog.text,
       CASE WHEN t.typsend::pg_catalog.oid <> 0
            THEN pg_catalog.quote_ident(pn.nspname) || '.' || pg_catalog.quote_ident(p.proname) ELSE '' END,
       a.atttypmod, a.attgenerated <> ''
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
JOIN pg_catalog.pg_type AS b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
LEFT JOIN pg_catalog.pg_proc AS p ON p.oid = t.typsend
LEFT JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""


def _columns(cursor: Any, oid: int) -> list[_Column]:
    names = ("name", "type", "base", "send", "typmod", "generated")
    return [_Column(**dict(zip(names, row, strict=True))) for row in cursor.execute(_COLUMNS, (oid,)).fetchall()]


_INDEXES = """
SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.position), i.indisprimary,
       i.indisunique AND i.indimmediate AND i.indisvalid AND i.indisready AND i.indpred IS NULL
         AND pg_catalog.bool_and(a.attnum IS NOT NULL AND a.attnotnull) AS usable,
       pg_catalog.array_agg('OPERATOR(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')' ORDER BY k.position)
FROM pg_catalog.pg_index AS i
CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]), pg_catalog.unnest(i.indclass::pg_catalog.oid[]))
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


def _key(cursor: Any, oid: int, target: Target, columns: dict[str, _Column]) -> tuple[KeyColumn, ...]:
    indexes = cursor.execute(_INDEXES, (oid,)).fetchall()
    usable = [(names, operators) for names, _, fit, operators in indexes if fit]
    if target.key:
        _check_key_columns(target, columns)
        chosen = next((index for index in usable if set(index[0]) == set(target.key)), None)
    else:
        chosen = next(((names, operators) for names, primary, fit, operators in indexes if primary and fit), None)
    if chosen is None:
        raise ConfigError(_no_key(target, [names for names, _ in usable]))
    for name in chosen[0]:
        if not columns[name].send:
            raise ConfigError(
                f"key column {name} has type {columns[name].type}, which has no binary form: choose another --key"
            )
    return tuple(
        KeyColumn(name=name, send=raw(columns[name].send), equals=raw(operator))
        for name, operator in zip(*chosen, strict=True)
    )


def _check_key_columns(target: Target, columns: dict[str, _Column]) -> None:
    for name in target.key:
        if name not in columns:
            raise ConfigError(
                f"--key {name}: {target.table} has no such column: there are {', '.join(sorted(columns))}"
            )


def _no_key(target: Target, usable: list[list[str]]) -> str:
    given = (
        f"--key {', '.join(target.key)} of {target.table}"
        if target.key
        else f"{target.table} has no primary key, and --key is not given: its key"
    )
    choices = "; ".join(f"--key {' --key '.join(names)}" for names in usable)
    remedy = f"use {choices}" if usable else "add a primary key to the table"
    return (
        f"{given} must be the columns of a unique index that is valid, whole, immediate and over NOT NULL columns, "
        f"or a row could not be told from another: {remedy}"
    )


def _vector(cursor: Any, target: Target, columns: dict[str, _Column], name: sql.Composable) -> VectorColumn:
    column = columns.get(target.column)
    if column is None:
        raise ConfigError(
            f"--column {target.column}: {target.table} has no such column: name one that is there, or add it: "
            f"ALTER TABLE {target.table} ADD COLUMN {target.column} vector(384)"
        )
    kind = {"vector": "vector", "halfvec": "halfvec", "_float4": "real[]"}.get(column.base)
    if kind is None or column.generated:
        what = "a generated column" if column.generated else f"of type {column.type}"
        raise ConfigError(
            f"--column {target.column} of {target.table} is {what}: it must be a plain vector, halfvec or real[] column"
        )
    declared = _declared_dimension(column, kind) or _present_dimension(cursor, column, kind, name)
    if declared and target.dim and declared != target.dim:
        raise ConfigError(
            f"--dim {target.dim}: {target.column} of {target.table} is {kind}({declared}): leave --dim out"
        )
    return VectorColumn(name=column.name, kind=kind, dim=declared or target.dim)


def _declared_dimension(column: _Column, kind: str) -> int | None:
    if kind == "real[]":
        return None
    match = re.search(r"\((\d+)\)$", column.type)
    return column.typmod if column.typmod > 0 else int(match[1]) if match else None


def _present_dimension(cursor: Any, column: _Column, kind: str, name: sql.Composable) -> int | None:
    """The dimension of a vector that is already there, where the column's type declares none."""
    query = sql.SQL("SELECT pg_catalog.cardinality({}::pg_catalog.float4[]) FROM {} WHERE {} IS NOT NULL LIMIT 1")
    row = cursor.execute(query.format(sql.Identifier(column.name), name, sql.Identifier(column.name)), ()).fetchone()
    return row[0] if row else None


_LEAVES = """
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text,
       (pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8)::pg_catalog.int4,
       pg_catalog.has_table_privilege(c.oid, 'SELECT'), c.oid = $1
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = $1 OR c.oid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass) AS p
                              WHERE p.isleaf)
ORDER BY 1, 2
"""


def _leaves(cursor: Any, oid: int, policies: bool) -> tuple[Leaf, ...]:
    """What to scan. Where policies apply or a partition may not be read by itself, the whole tree counts as one."""
    found = cursor.execute(_LEAVES, (oid,)).fetchall()
    for schema, name, kind, *_ in found:
        if kind not in ("r", "p"):
            raise ConfigError(
                f"partition {schema}.{name} is a foreign table: run on its server, or on the other partitions"
            )
    leaves = [(schema, name, pages, may) for schema, name, kind, pages, may, _ in found if kind == "r"]
    if any(not root for *_, root in found) and (policies or not all(may for *_, may in leaves)):
        root = next(sql.Identifier(schema, name) for schema, name, *_, is_root in found if is_root)
        return (Leaf(name=root, only=False, pages=max((pages for *_, pages, _ in leaves), default=0)),)
    return tuple(Leaf(name=sql.Identifier(schema, name), only=True, pages=pages) for schema, name, pages, _ in leaves)


def _assignment(
    text: str, columns: dict[str, _Column], template: Template, target: Target
) -> tuple[str, sql.Composable]:
    left, equals, right = text.partition("=")
    name = left.strip()
    if name.startswith('"') and name.endswith('"') and len(name) > 2:
        name = name[1:-1].replace('""', '"')
    if not equals or not right.strip() or not name:
        raise ConfigError(f"--set {text!r} is not an assignment: write column = expression, such as updated_at = now()")
    if name not in columns:
        raise ConfigError(
            f"--set {text!r}: {target.table} has no column {name}: there are {', '.join(sorted(columns))}"
        )
    if name == target.column:
        raise ConfigError(f"--set {text!r} assigns the embedding column itself: leave it out")
    if name in template.fields:
        raise ConfigError(
            f"--set {text!r} assigns {name}, which --text reads: the vector would not belong to the text that is left: "
            f"take {{{name}}} out of --text"
        )
    return name, raw(right.strip())


STATEMENT_TIMEOUT_MS = 60_000
"""Longest time of one of our statements that hold row locks: a batch aims at half a second."""


def _timeouts(cursor: Any) -> dict[str, str]:
    """Settings of our writing transactions; never looser than what the role or the database sets."""
    ours = {
        "lock_timeout": 5_000,
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": 60_000,
    }
    rows = cursor.execute(
        "SELECT name, setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = ANY ($1)",
        ([*ours, "client_connection_check_interval"],),
    ).fetchall()
    theirs = dict(rows)
    settings = {name: str(min(value, theirs[name]) if theirs.get(name) else value) for name, value in ours.items()}
    if "client_connection_check_interval" in theirs and _may_check_clients(cursor):
        settings["client_connection_check_interval"] = "2s"
    return settings


def _may_check_clients(cursor: Any) -> bool:
    """Whether the server's platform can notice a client that is gone (``kill -9`` leaves locks otherwise)."""
    try:
        with cursor.connection.transaction():
            cursor.execute("SELECT pg_catalog.set_config('client_connection_check_interval', '2s', true)", ())
    except psycopg.errors.InvalidParameterValue:
        return False
    return True
