"""``vecfill untrack``: removes what tracking has made, also for a table that was dropped since."""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.ledger import layout_sql
from vecfill.ledger.ddl import execute
from vecfill.ledger.migrations import check_no_migration
from vecfill.ledger.registry import condition_of, find_targets, ledger_version
from vecfill.ledger.waiting_indexes import check_none_waits
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.index_sql import SavedIndex
from vecfill.postgres.introspect import inspect
from vecfill.postgres.session import open_session
from vecfill.postgres.tracking import Tracking
from vecfill.postgres.transaction import transaction
from vecfill.target_tracking import TrackResult


def untrack(target: Target, *, database: str | Database | None = None, dry_run: bool = False) -> TrackResult:
    """Removes all that tracking has made for a target; after the last target the ledger too. Vectors stay.

    Raises:
        ConfigError: the target is not tracked; this role may not drop what tracking made.
    """
    with open_session(database) as session:
        return session.run(lambda connection: _untrack(connection, target, dry_run=dry_run))


def _untrack(connection: Connection, target: Target, *, dry_run: bool) -> TrackResult:
    try:
        relation = inspect(connection, target, text_needed=False, key_needed=False)
    except ConfigError:
        if lost := _lost(connection, target, dry_run=dry_run):
            return lost
        raise
    with transaction(connection, read_only=True) as cursor:
        exists = ledger_version(cursor, target.state_schema, relation) is not None
        tracked = find_targets(cursor, relation, target) if exists else {}
        found = tracked.get(condition_of(target))
        if found is None:
            column = f"{relation.table.label}.{relation.table.vector.name}"
            conditions = ", ".join(f"--where {where or '(none)'!r}" for where in tracked)
            raise ConfigError(
                f"{column} is tracked with {conditions}: use the same"
                if tracked
                else f"{column} is not tracked: nothing to remove"
            )
        check_no_migration(cursor, target.state_schema, found.id)
        check_none_waits(cursor, found.waiting)
        row = cursor.execute(_count(target.state_schema), ()).fetchone()
    relation = replace(relation, tracking=Tracking.of(target.state_schema, found.id, ()))
    last = layout_sql.drop_shared(target.state_schema) if row and row[0] == 1 else ()
    return _dropped(connection, relation.table.label, [*layout_sql.drop_target(relation), *last], dry_run=dry_run)


def _lost(connection: Connection, target: Target, *, dry_run: bool) -> TrackResult | None:
    """Removes the targets whose tables were dropped, or of an existing table those whose column was renamed.

    None if there are none.
    """
    schema = target.state_schema
    with transaction(connection, read_only=True) as cursor:
        there = cursor.execute("SELECT pg_catalog.to_regclass($1::pg_catalog.text)::oid", (target.table,)).fetchone()
        if ledger_version(cursor, schema) is None:
            return None
        oid = there[0] if there else None
        query = sql.SQL(_RENAMED if oid else _LOST).format(sql.Identifier(schema, "target"))
        lost = cursor.execute(query, (oid, target.column) if oid else ()).fetchall()
        for *_, waiting in lost:
            check_none_waits(cursor, [SavedIndex.of(one) for one in waiting or ()])
        count = cursor.execute(_count(schema), ()).fetchone() or (0,)
    if not lost:
        return None
    ddl = [one for number, table, _ in lost for one in layout_sql.drop_lost(Tracking.of(schema, number, ()), table)]
    last = layout_sql.drop_shared(schema) if count[0] == len(lost) else ()
    return _dropped(connection, target.table, [*ddl, *last], dry_run=dry_run)


_LOST = """
SELECT t.id, NULL, NULL FROM {} AS t
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = t.relation::oid)
"""

_RENAMED = """
SELECT t.id, t.relation::pg_catalog.text, pg_catalog.to_jsonb(t) OPERATOR(pg_catalog.->) 'waiting_indexes'
FROM {} AS t
WHERE t.relation::pg_catalog.oid = $1::pg_catalog.oid AND t.embedding = $2::pg_catalog.text AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = $1::pg_catalog.oid AND a.attname = t.embedding)
"""


def _count(schema: str) -> sql.Composed:
    return sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(sql.Identifier(schema, "target"))


def _dropped(connection: Connection, label: str, ddl: list[sql.Composed], *, dry_run: bool) -> TrackResult:
    if not dry_run:
        execute(connection, label, ddl, verb="untracked")
    statements = tuple(statement.as_string() for statement in ddl)
    return TrackResult(table=label, ddl=statements, grants=(), created=False, changed=False)
