"""Looks up a column's type for the statements. ``catalogue`` explains the form of the queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql


@dataclass(frozen=True, kw_only=True)
class Type:
    """A type, with SQL names.

    Attributes:
        base: its name; for a domain, the name of its base type.
        typmod: of the innermost domain, else -1.
        send: the function that returns its binary field; None if it has none.
        array: its array type; None if it has none.
    """

    base: str
    typmod: int
    send: sql.Composable | None
    array: sql.Composable | None


_TYPE = """
SELECT t.typname, t.typtype, t.typbasetype, t.typtypmod,
       (SELECT n.nspname FROM pg_catalog.pg_namespace AS n WHERE n.oid = (
         SELECT p.pronamespace FROM pg_catalog.pg_proc AS p WHERE p.oid = t.typsend::pg_catalog.oid)),
       (SELECT p.proname FROM pg_catalog.pg_proc AS p WHERE p.oid = t.typsend::pg_catalog.oid),
       (SELECT n.nspname FROM pg_catalog.pg_namespace AS n WHERE n.oid = (
         SELECT a.typnamespace FROM pg_catalog.pg_type AS a WHERE a.oid = t.typarray)),
       (SELECT a.typname FROM pg_catalog.pg_type AS a WHERE a.oid = t.typarray)
FROM pg_catalog.pg_type AS t WHERE t.oid = $1::pg_catalog.oid
"""

_UNDER = """
SELECT t.typname, t.typtype, t.typbasetype, t.typtypmod FROM pg_catalog.pg_type AS t WHERE t.oid = $1::pg_catalog.oid
"""

_EQUALITY = """
SELECT (SELECT n.nspname FROM pg_catalog.pg_namespace AS n WHERE n.oid = o.oprnamespace), o.oprname
FROM pg_catalog.pg_operator AS o WHERE o.oid = (
  SELECT m.amopopr FROM pg_catalog.pg_amop AS m
  WHERE m.amopfamily = (SELECT c.opcfamily FROM pg_catalog.pg_opclass AS c WHERE c.oid = $1::pg_catalog.oid)
    AND m.amoplefttype = (SELECT c.opcintype FROM pg_catalog.pg_opclass AS c WHERE c.oid = $1::pg_catalog.oid)
    AND m.amoprighttype = (SELECT c.opcintype FROM pg_catalog.pg_opclass AS c WHERE c.oid = $1::pg_catalog.oid)
    AND m.amopstrategy = 3::pg_catalog.int2)
"""


def type_of(cursor: Any, oid: int) -> Type:
    """Looks up a type."""
    base, kind, under, typmod, send_schema, send, array_schema, array = cursor.execute(_TYPE, (oid,)).fetchone()
    while kind == "d":
        base, kind, under, deeper = cursor.execute(_UNDER, (under,)).fetchone()
        typmod = deeper if kind == "d" else typmod
    return Type(
        base=base,
        typmod=typmod,
        send=sql.Identifier(send_schema, send) if send else None,
        array=sql.Identifier(array_schema, array) if array else None,
    )


def equality_of(cursor: Any, operator_class: int) -> sql.Composable:
    """Returns the equality operator of a B-tree operator class."""
    schema, name = cursor.execute(_EQUALITY, (operator_class,)).fetchone()
    return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(schema), sql.SQL(name))
