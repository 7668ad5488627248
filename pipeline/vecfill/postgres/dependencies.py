"""Which columns the user's SQL reads, by the server's own dependency records."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.target_sql import target
from vecfill.postgres.transaction import transaction


@dataclass(frozen=True, kw_only=True)
class Reads:
    """What an expression over a row of the target reads.

    Attributes:
        columns: columns of the target, in table order; a virtual generated column counts as those that it reads.
        relations: other tables and views.
        functions: functions other than the server's own; what those read is not known.
    """

    columns: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


def reads(connection: Connection, relation: Relation, option: str, expression: sql.Composable) -> Reads:
    """Finds out what an expression reads, by a temporary view that is rolled back.

    Args:
        connection: to the target's database.
        relation: the target.
        option: that gave the expression, for messages.
        expression: over a row of the target.

    Raises:
        ConfigError: this role may not create temporary objects; the expression reads the row as a whole, or a system
            column that a write changes.
    """
    view = sql.SQL("CREATE TEMPORARY VIEW vecfill_reads AS SELECT (\n{}\n) AS value FROM {}").format(
        expression, target(relation)
    )
    with transaction(connection) as cursor:
        try:
            cursor.execute(view, ())
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigError(
                f"the columns that {option} reads cannot be found: {server_message(error)}: GRANT TEMPORARY ON "
                "DATABASE to this role"
            ) from error
        found = _found(cursor, relation, option)
        cursor.connection.rollback()
    return found


def _found(cursor: Cursor, relation: Relation, option: str) -> Reads:
    definition = cursor.execute("SELECT pg_catalog.pg_get_viewdef('pg_temp.vecfill_reads'::regclass)", ()).fetchone()
    alias = sql.Identifier(relation.table.alias).as_string()
    if definition and any(f"{name}.*" in definition[0] for name in (alias, relation.table.alias)):
        raise ConfigError(
            f"{option} reads rows of {relation.table.label} as a whole, and so their vectors too: name the columns"
        )
    rows = cursor.execute(_DEPENDENCIES, ()).fetchall()
    numbers = {column for kind, oid, column, _ in rows if kind == "column" and oid == relation.table.oid and column}
    others = {name for kind, oid, _, name in rows if kind == "column" and oid != relation.table.oid}
    if numbers & _OF_THE_VERSION.keys():
        names = ", ".join(_OF_THE_VERSION[number] for number in sorted(numbers & _OF_THE_VERSION.keys()))
        raise ConfigError(f"{option} reads {names}, which each write of the row changes: leave it out")
    by_number = {number: name for name, number, *_ in cursor.execute(_COLUMNS, (relation.table.oid,)).fetchall()}
    return Reads(
        columns=base_columns(cursor, relation, tuple(by_number[number] for number in sorted(numbers) if number > 0)),
        relations=tuple(sorted(others)),
        functions=tuple(sorted({name for kind, _, _, name in rows if kind == "function"})),
    )


_OF_THE_VERSION = {-1: "ctid", -2: "xmin", -3: "cmin", -4: "xmax", -5: "cmax"}
"""System columns; the last one, ``tableoid``, is the partition."""

_DEPENDENCIES = """
SELECT CASE WHEN d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass THEN 'column' ELSE 'function' END,
  d.refobjid, d.refobjsubid,
  CASE WHEN d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    THEN d.refobjid::pg_catalog.regclass::pg_catalog.text ELSE d.refobjid::pg_catalog.regprocedure::pg_catalog.text END
FROM pg_catalog.pg_depend AS d
JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid
WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
  AND r.ev_class = 'pg_temp.vecfill_reads'::pg_catalog.regclass AND d.refobjid <> r.ev_class
  AND d.refclassid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_proc'::pg_catalog.regclass)
"""

_COLUMNS = """
SELECT a.attname::pg_catalog.text, a.attnum::pg_catalog.int4, a.attgenerated::pg_catalog.text,
  ARRAY(SELECT d.refobjsubid FROM pg_catalog.pg_attrdef AS f
    JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid
    WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum AND d.refobjid = a.attrelid AND d.refobjsubid <> a.attnum)
FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
"""


def base_columns(cursor: Cursor, relation: Relation, names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the columns, with a virtual generated one replaced by those that it reads: triggers do not see it."""
    columns = cursor.execute(_COLUMNS, (relation.table.oid,)).fetchall()
    by_number = {number: name for name, number, *_ in columns}
    bases = {name: base for name, _, generated, base in columns if generated == "v"}
    return tuple(
        dict.fromkeys(
            found for name in names for found in ([by_number[one] for one in bases[name]] if name in bases else [name])
        )
    )


def compared_by_image(cursor: Cursor, relation: Relation, names: tuple[str, ...]) -> frozenset[str]:
    """Returns those columns whose ``=`` may hold although their texts differ, or whose type has no ``=``."""
    rows = cursor.execute(_TYPES, (relation.table.oid, list(names))).fetchall()
    return frozenset(name for name, kind, deterministic in rows if kind not in _EXACT or deterministic is False)


_TYPES = """
SELECT a.attname::pg_catalog.text, a.atttypid::pg_catalog.int4,
  (SELECT c.collisdeterministic FROM pg_catalog.pg_collation AS c WHERE c.oid = a.attcollation)
FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = $1 AND a.attname = ANY ($2::pg_catalog.name[])
"""

_EXACT = {16, 17, 20, 21, 23, 25, 26, 1043, 1082, 1114, 1184, 2950}
"""Types whose ``=`` compares what their text shows: bool, bytea, int8, int2, int4, text, oid, varchar, date, timestamp,
timestamptz, uuid."""
