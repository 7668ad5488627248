"""What the old column demands of its values, default, NOT NULL and CHECK constraints: what the new one takes over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from vecfill.config.target import Target
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.exchange_sql import CONSTRAINTS, NEXT
from vecfill.postgres.migrate_sql import NewColumn, suffixed, twin_check
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import Session
from vecfill.postgres.template import verbatim_sql
from vecfill.postgres.transaction import transaction


@dataclass(frozen=True, kw_only=True)
class ColumnRules:
    """The rules that the new column gets.

    Attributes:
        column: the new column, with a placeholder as its default and NOT NULL where the old column has both.
        checks: the statements that add the twins of CHECK constraints, not validated yet.
        left: the old column's rules that are not copied, a sentence each.
    """

    column: NewColumn
    checks: tuple[sql.Composed, ...]
    left: tuple[str, ...]


def rules_of(connection: Connection, relation: Relation, column: NewColumn, *, zeros: bool) -> ColumnRules:
    """Reads the rules of the old column, and chooses those that the new vectors can keep.

    A default is kept if it is a placeholder, a vector of zeros that runs count as missing, and NOT NULL with it: else
    an INSERT that does not know the new column would fail. A CHECK constraint is kept if it is on this column alone and
    true or NULL of NULL.
    """
    vector, left = relation.table.vector, list[str]()
    with transaction(connection, {"search_path": ""}, read_only=True) as cursor:
        row = cursor.execute(_DEFAULT, (relation.table.oid, vector.name)).fetchone()
        default = row[0] if row else None
        if default and zeros and not vector.is_array and _is_zero(cursor, default):
            column = replace(column, placeholder=True, not_null=_not_null(cursor, relation))
        elif default:
            left.append(
                f"the default {default} of {vector.name} is not copied: set one for {column.name} if it needs it"
            )
        if vector.not_null and not column.not_null:
            left.append(f"NOT NULL of {vector.name} is not copied, since inserts do not name {column.name} yet")
        checks = list[sql.Composed]()
        for name, alone, definition, comment, quoted in cursor.execute(
            _DEFINITIONS, (relation.table.oid, vector.name)
        ).fetchall():
            made = twin_check(definition, quoted, vector.dim, column)
            if alone and _allows_null(cursor, made, column):
                checks.extend(_add_check(relation, suffixed(name, NEXT), made, comment))
            else:
                left.append(f"CHECK constraint {name} is not copied to {column.name}: add one by hand if it needs it")
        others = cursor.execute(_OTHERS, (list(relation.table.tree), relation.table.oid, vector.name)).fetchall()
        left += [f"{named} is not copied to {column.name}, and goes with {vector.name}" for (named,) in others]
    return ColumnRules(column=column, checks=tuple(checks), left=tuple(left))


_DEFAULT = """
SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1::pg_catalog.oid AND a.attname = $2::pg_catalog.text
"""


def _not_null(cursor: Cursor, relation: Relation) -> str | None:
    """The name of the new column's NOT NULL constraint, which servers before 18 do not keep; None if it has none."""
    vector = relation.table.vector
    if not vector.not_null:
        return None
    row = cursor.execute(_NOT_NULL, (relation.table.oid, vector.name)).fetchone()
    return suffixed(row[0] if row else f"{vector.name}_not_null", NEXT)


_NOT_NULL = """
SELECT c.conname::pg_catalog.text
FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid
WHERE c.conrelid = $1::pg_catalog.oid AND c.contype = 'n' AND a.attname = $2::pg_catalog.text
  AND a.attnum = ANY (c.conkey)
"""

_DEFINITIONS = """
SELECT c.conname::pg_catalog.text, pg_catalog.cardinality(c.conkey) = 1, pg_catalog.pg_get_constraintdef(c.oid),
  pg_catalog.obj_description(c.oid, 'pg_constraint'), pg_catalog.quote_ident(a.attname)
FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid
WHERE c.conrelid = $1::pg_catalog.oid AND c.contype = 'c' AND c.conislocal AND a.attname = $2::pg_catalog.text
  AND a.attnum = ANY (c.conkey) ORDER BY c.conname
"""


_OTHERS = """
SELECT 'statistics object ' || pg_catalog.quote_ident(s.stxname) FROM pg_catalog.pg_statistic_ext AS s
WHERE s.oid IN (
  SELECT d.objid FROM pg_catalog.pg_depend AS d
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE d.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND d.refobjid = ANY ($1::pg_catalog.oid[])
    AND a.attname = $3::pg_catalog.text)
UNION ALL
SELECT 'CHECK constraint ' || pg_catalog.quote_ident(c.conname) || ' of ' || c.conrelid::pg_catalog.regclass
FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid
WHERE c.conrelid = ANY ($1::pg_catalog.oid[]) AND c.conrelid <> $2::pg_catalog.oid AND c.contype = 'c'
  AND c.conislocal AND c.coninhcount = 0 AND a.attname = $3::pg_catalog.text AND a.attnum = ANY (c.conkey)
ORDER BY 1
"""


def _is_zero(cursor: Cursor, default: str) -> bool:
    query = sql.SQL("SELECT 0::pg_catalog.float8 OPERATOR(pg_catalog.=) ALL (({})::pg_catalog.float4[])")
    return _true(cursor, query.format(verbatim_sql(default)))


def _allows_null(cursor: Cursor, definition: str, column: NewColumn) -> bool:
    expression = definition.removeprefix("CHECK ").removesuffix(" NOT VALID").removesuffix(" NO INHERIT")
    query = sql.SQL("SELECT ({}) IS NOT FALSE FROM (SELECT NULL::{} AS {}) AS vecfill_v")
    return _true(cursor, query.format(verbatim_sql(expression), column.type, sql.Identifier(column.name)))


def _true(cursor: Cursor, query: sql.Composed) -> bool:
    try:
        with cursor.connection.transaction():
            row = cursor.execute(query, ()).fetchone()
    except psycopg.Error:
        return False
    return bool(row and row[0])


def _add_check(relation: Relation, name: str, definition: str, comment: str | None) -> Iterator[sql.Composed]:
    """Adds a constraint without reading the table; new rows are checked from then on."""
    yield sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} NOT VALID").format(
        relation.table.name, sql.Identifier(name), verbatim_sql(definition.removesuffix(" NOT VALID"))
    )
    if comment:
        yield sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
            sql.Identifier(name), relation.table.name, sql.Literal(comment)
        )


def validate_constraints(session: Session, new: Relation, old: Target) -> None:
    """Validates the twins of valid constraints: reads the table, beside the application's work."""
    for name in session.run(lambda connection: _to_validate(connection, new, old.column)):
        statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(new.table.name, sql.Identifier(name))
        session.run(lambda connection, statement=statement: _validate(connection, statement))  # type: ignore[misc]


def _to_validate(connection: Connection, new: Relation, old_column: str) -> list[str]:
    with transaction(connection, read_only=True) as cursor:
        named = [
            dict(cursor.execute(CONSTRAINTS, (new.table.oid, column)).fetchall())
            for column in (old_column, new.table.vector.name)
        ]
    valid = {suffixed(name, NEXT) for name, validated in named[0].items() if validated}
    return sorted(name for name, validated in named[1].items() if name in valid and not validated)


def _validate(connection: Connection, statement: sql.Composed) -> None:
    with transaction(connection, {"statement_timeout": "0"}) as cursor:
        cursor.execute(statement, ())
