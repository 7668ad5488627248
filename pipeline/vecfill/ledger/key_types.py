"""The types of a target's key that have changed since its tables in the ledger were made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from vecfill.postgres.database import Cursor
from vecfill.postgres.relation import Relation
from vecfill.postgres.template import verbatim_sql


@dataclass(frozen=True, kw_only=True)
class KeyTypes:
    """Key columns of the ledger's tables whose type is not that of the target's key any more.

    Attributes:
        types: the types that they need, by name, with their collation.
        widened: each value of the old types is one of the new: what the ledger knows can be kept.
    """

    types: dict[str, str]
    widened: bool


def changed_types(cursor: Cursor, relation: Relation) -> KeyTypes | None:
    """Compares the key with the ledger's tables; None if its types are the same."""
    tracking = relation.ledger
    names = [name for name, _ in tracking.key]
    parameters = relation.table.oid, names, tracking.key_names, tracking.vectors.as_string()
    rows = cursor.execute(_CHANGED, parameters).fetchall()
    if not rows:
        return None
    return KeyTypes(types={name: kind for name, kind, _ in rows}, widened=all(widened for *_, widened in rows))


def retype(relation: Relation, changed: KeyTypes) -> Iterator[sql.Composed]:
    """Gives the ledger's tables of a target the key's new types."""
    tracking = relation.ledger
    for table in (tracking.vectors, tracking.changes, tracking.failures):
        parts = [
            sql.SQL("ALTER COLUMN {} TYPE {}").format(sql.Identifier(name), verbatim_sql(kind))
            for name, kind in changed.types.items()
        ]
        yield sql.SQL("ALTER TABLE {} {}").format(table, sql.SQL(", ").join(parts))


_CHANGED = """
SELECT k.own, pg_catalog.format_type(c.atttypid, c.atttypmod) || COALESCE((
    SELECT ' COLLATE ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(o.collname)
    FROM pg_catalog.pg_collation AS o JOIN pg_catalog.pg_namespace AS n ON n.oid = o.collnamespace
    WHERE o.oid = c.attcollation), ''),
  c.attcollation = v.attcollation AND (c.atttypid = v.atttypid AND (c.atttypmod = -1 OR c.atttypmod > v.atttypmod
      AND v.atttypmod <> -1 AND c.atttypid <> 'pg_catalog.numeric'::pg_catalog.regtype)
    OR c.atttypmod = -1 AND EXISTS (SELECT FROM pg_catalog.pg_cast
      WHERE castsource = v.atttypid AND casttarget = c.atttypid AND castcontext = 'i'))
FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[])) AS k (name, own)
JOIN pg_catalog.pg_attribute AS c ON c.attrelid = $1::pg_catalog.oid AND c.attname = k.name
JOIN pg_catalog.pg_attribute AS v ON v.attrelid = pg_catalog.to_regclass($4::pg_catalog.text) AND v.attname = k.own
WHERE (c.atttypid, c.atttypmod, c.attcollation) IS DISTINCT FROM (v.atttypid, v.atttypmod, v.attcollation)
"""
