"""What the new column and its ledger take over from the old: storage, statistics, comment, and the rights of roles."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.template import verbatim_sql
from vecfill.postgres.tracking import Tracking
from vecfill.postgres.transaction import transaction


def properties_of(connection: Connection, relation: Relation, new: str) -> Iterator[sql.Composed]:
    """Yields the statements that give the new column the properties and the column rights of the embedding column."""
    old, table, column = relation.table.vector.name, relation.table.name, sql.Identifier(new)
    with transaction(connection, read_only=True) as cursor:
        row = cursor.execute(_PROPERTIES, (relation.table.oid, old)).fetchone()
        storage, compression, goal, settings, comment = row or (None,) * 5
        rights = cursor.execute(_COLUMN_RIGHTS, (relation.table.oid, old)).fetchall()
    if storage:
        yield sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET STORAGE {}").format(table, column, verbatim_sql(storage))
    if compression:
        yield sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET COMPRESSION {}").format(
            table, column, verbatim_sql(compression)
        )
    if goal is not None:
        yield sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET STATISTICS {}").format(table, column, sql.Literal(goal))
    if settings:
        yield sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET ({})").format(table, column, verbatim_sql(settings))
    if comment:
        yield sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(table, column, sql.Literal(comment))
    for right, role, option in rights:
        yield sql.SQL("GRANT {} ({}) ON {} TO {}{}").format(
            *(verbatim_sql(right), column, table, verbatim_sql(role)),
            sql.SQL(" WITH GRANT OPTION" if option else ""),
        )


_PROPERTIES = """
SELECT CASE WHEN a.attstorage <> t.typstorage
    THEN CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'x' THEN 'EXTENDED' ELSE 'MAIN' END END,
  CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END,
  CASE WHEN a.attstattarget >= 0 THEN a.attstattarget::pg_catalog.int4 END,
  pg_catalog.array_to_string(a.attoptions, ', '),
  pg_catalog.col_description(a.attrelid, a.attnum)
FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = $1::pg_catalog.oid AND a.attname = $2::pg_catalog.text
"""

_COLUMN_RIGHTS = """
SELECT r.privilege_type, CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE r.grantee::pg_catalog.regrole::pg_catalog.text END,
  r.is_grantable
FROM pg_catalog.pg_attribute AS a CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS r
WHERE a.attrelid = $1::pg_catalog.oid AND a.attname = $2::pg_catalog.text ORDER BY 2, 1
"""


def grants_of(connection: Connection, old: Tracking, new: Tracking) -> Iterator[sql.Composed]:
    """Yields the statements that give every role that can run on the old target's tables the same on the new's."""
    pairs = ((old.vectors, new.vectors), (old.changes, new.changes), (old.failures, new.failures))
    for one, other in pairs:
        with transaction(connection, read_only=True) as cursor:
            rights = cursor.execute(_TABLE_RIGHTS, (one.as_string(),)).fetchall()
        for right, role in rights:
            yield sql.SQL("GRANT {} ON {} TO {}").format(verbatim_sql(right), other, verbatim_sql(role))


_TABLE_RIGHTS = """
SELECT pg_catalog.string_agg(r.privilege_type, ', ' ORDER BY r.privilege_type),
  CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE r.grantee::pg_catalog.regrole::pg_catalog.text END
FROM pg_catalog.pg_class AS c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS r
WHERE c.oid = pg_catalog.to_regclass($1)::pg_catalog.oid AND r.grantee <> c.relowner GROUP BY r.grantee ORDER BY 2
"""
