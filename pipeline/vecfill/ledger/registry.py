"""Finds a target in the ledger, and reads what the ledger says of it as a whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import psycopg
from psycopg import sql

from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.ledger.layout_sql import VERSION
from vecfill.ledger.scanned import complete, marks_of, triggers_of
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.index_sql import SavedIndex
from vecfill.postgres.relation import Relation
from vecfill.postgres.tracking import Tracking
from vecfill.postgres.transaction import transaction


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A tracked target, as the ledger describes it.

    Attributes:
        relation: the target, with its tracking.
        watched: all triggers that it was tracked with exist and are enabled.
        to_scan: oids of the leaves that no run has read as a whole since their triggers were made. A partition that was
            detached and attached again has new triggers, and edits meanwhile fired none.
        models: numbers of the models that wrote vectors.
        unknown: vectors of unknown origin when the table was last read as a whole; None if it was not.
        waiting: vector indexes that a run has dropped and that are to be built again, as they were.
    """

    relation: Relation
    watched: bool
    to_scan: frozenset[int]
    models: tuple[int, ...]
    unknown: int | None
    waiting: tuple[SavedIndex, ...] = ()

    def with_model(self, number: int) -> Self:
        """Returns the same target with the number of the model at work."""
        return replace(self, relation=replace(self.relation, tracking=replace(self.relation.ledger, model=number)))


def find_tracked(connection: Connection, relation: Relation, target: Target) -> Tracked | None:
    """Looks a target up in the ledger.

    Args:
        connection: to the target's database.
        relation: the target, from ``inspect``.
        target: the user's settings.

    Returns:
        None if the target is not tracked.

    Raises:
        ConfigError: it is tracked with another text, key or ``--where``; this role may not read the ledger; the ledger
            is of a newer version.
    """
    with transaction(connection, read_only=True) as cursor:
        if not ledger_version(cursor, target.state_schema, relation):
            return None
        return _found(cursor, relation, target)


def ledger_version(cursor: Cursor, schema: str, relation: Relation | None = None) -> int | None:
    """Returns the version of the ledger in a schema; None if there is none.

    Raises:
        ConfigError: it is newer than this program; or the target has triggers of a ledger that this role may not read.
    """
    there = has_schema(cursor, schema)
    if there is None:
        return None
    exists, may_read = cursor.execute(_LEDGER, (there,)).fetchone() or (False, False)
    if not exists or not (may_read or (relation and _has_triggers(cursor, there, relation))):
        return None
    try:
        query = sql.SQL("SELECT version FROM {}").format(sql.Identifier(schema, "ledger"))
        version = cursor.execute(query, ()).fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"--state-schema {schema}: {server_message(error)}: the target is tracked, so GRANT this role USAGE on the "
            "schema, and what else `vecfill track --dry-run` shows"
        ) from error
    found = int(version[0]) if version else 0
    if found > VERSION:
        raise ConfigError(
            f"--state-schema {schema}: the ledger has version {found}, and this vecfill knows up to {VERSION}: upgrade "
            "vecfill"
        )
    return found


def _has_triggers(cursor: Cursor, schema: int, relation: Relation) -> bool:
    """Whether the target has triggers of a ledger, by the oid of its schema."""
    found = cursor.execute(_TRIGGERS_OF_LEDGER, (schema, list(relation.table.tree))).fetchone()
    return bool(found and found[0])


def has_schema(cursor: Cursor, schema: str) -> int | None:
    """Returns the oid of a schema; None if there is none."""
    found = cursor.execute(_SCHEMA, (schema,)).fetchone()
    return found[0] if found else None


_SCHEMA = "SELECT n.oid FROM pg_catalog.pg_namespace AS n WHERE n.nspname = $1::pg_catalog.name"
"""Alone, for the many databases without a ledger: see ``catalogue`` on the cost of a query."""

_LEDGER = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c
    WHERE c.relname = 'ledger'::pg_catalog.name AND c.relnamespace = $1::pg_catalog.oid),
  pg_catalog.has_schema_privilege($1::pg_catalog.oid, 'USAGE')
"""

_TRIGGERS_OF_LEDGER = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = ANY ($2::pg_catalog.oid[])
  AND (SELECT p.pronamespace FROM pg_catalog.pg_proc AS p WHERE p.oid = t.tgfoid) = $1::pg_catalog.oid)
"""


@dataclass(frozen=True, kw_only=True)
class TargetRow:
    """A target's row in the ledger; see ``layout_sql``."""

    id: int
    text: str | None
    text_sql: str | None
    key: list[str]
    triggers: bool
    scanned: frozenset[int]
    models: tuple[int, ...]
    unknown: int | None
    waiting: tuple[SavedIndex, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """What tracking was made with."""
        return {"text": self.text, "text_sql": self.text_sql, "key": self.key, "triggers": self.triggers}


def find_target(cursor: Cursor, relation: Relation, target: Target) -> TargetRow | None:
    """Returns the target's row in an existing ledger; None if it is not tracked.

    Raises:
        ConfigError: this role may not read the ledger.
    """
    rows = find_targets(cursor, relation, target)
    return rows.get(condition_of(target))


def find_targets(cursor: Cursor, relation: Relation, target: Target) -> dict[str, TargetRow]:
    """Returns the tracked targets of this embedding column, by their ``where``.

    Raises:
        ConfigError: this role may not read the ledger; the column of a target of this table was renamed.
    """
    schema = target.state_schema
    query = sql.SQL(_TARGETS).format(sql.Identifier(schema, "target"))
    try:
        rows = cursor.execute(query, (relation.table.oid, list(relation.table.columns))).fetchall()
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"--state-schema {schema}: {server_message(error)}: GRANT it to this role, and what else "
            "`vecfill track --dry-run` shows"
        ) from error
    for gone in (embedding for embedding, exists, *_ in rows if not exists):
        raise ConfigError(
            f"{relation.table.label} is tracked for its column {gone}, which it no longer has: rename the column back, "
            f"or run `vecfill untrack --column {gone}`, then `vecfill track` with the new name"
        )
    return {
        condition: TargetRow(
            id=number,
            text=text,
            text_sql=text_sql,
            key=key,
            triggers=triggers,
            scanned=frozenset(scanned),
            models=tuple(models),
            unknown=unknown,
            waiting=tuple(SavedIndex.of(one) for one in waiting or ()),
        )
        for embedding, _, number, condition, text, text_sql, key, triggers, scanned, models, unknown, waiting in rows
        if embedding == relation.table.vector.name
    }


def _found(cursor: Cursor, relation: Relation, target: Target) -> Tracked | None:
    rows, wanted = find_targets(cursor, relation, target), condition_of(target)
    if wanted not in rows:
        if rows:
            raise ConfigError(
                f"{relation.table.label}.{relation.table.vector.name} is tracked with --where "
                f"{next(iter(rows)) or '(none)'!r}, and this is --where {wanted or '(none)'!r}: use the same, or run "
                "`vecfill track` with this one too"
            )
        return None
    row = rows[wanted]
    tracking = Tracking.of(target.state_schema, row.id, relation.table.key)
    _check_same(relation, target, row)
    found = triggers_of(cursor, relation, tracking)
    watched = not row.triggers or complete(relation, found)
    leaves = frozenset(leaf.oid for leaf in relation.table.leaves)
    marked = {leaf for leaf, marks in marks_of(relation, found).items() if marks and marks <= row.scanned}
    return Tracked(
        relation=replace(relation, tracking=tracking),
        watched=watched,
        to_scan=leaves - marked if row.triggers and watched else leaves,
        models=row.models,
        unknown=row.unknown,
        waiting=row.waiting,
    )


_TARGETS = """
SELECT embedding, embedding OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[]), id, condition, text, text_sql, key,
  triggers, scanned, models, unknown, pg_catalog.to_jsonb(t) OPERATOR(pg_catalog.->) 'waiting_indexes'::pg_catalog.text
FROM {} AS t WHERE relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
"""
"""A ledger of version 2 has no column of waiting indexes. Without the cast, a regclass compared with an oid makes the
server look through every operator = of its catalogue."""


def condition_of(target: Target) -> str:
    """Returns the ``where`` of a target as the ledger stores it."""
    return (target.where or "").strip()


def _check_same(relation: Relation, target: Target, row: TargetRow) -> None:
    if target.text is None and target.text_sql is None:
        return
    if (target.text, target.text_sql) != (row.text, row.text_sql):
        option, value = ("--text-sql", row.text_sql) if row.text is None else ("--text", row.text)
        raise ConfigError(
            f"{relation.table.label} is tracked with {option} {value!r}: use the same, or run `vecfill track` again "
            "with the new one; every vector then counts as changed"
        )
    names = [part.name for part in relation.table.key]
    if names and names != row.key:
        raise ConfigError(
            f"{relation.table.label} is tracked by the key {', '.join(row.key)}, and this is the key "
            f"{', '.join(names)}: pass --key {' --key '.join(row.key)}, or run `vecfill track` again: the "
            "origin of every vector is then unknown"
        )
