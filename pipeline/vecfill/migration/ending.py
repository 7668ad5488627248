"""``vecfill migrate finish`` and ``abandon``: drop one of the two columns with its tracking, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.ledger import layout_sql
from vecfill.ledger.migrations import (
    ABANDONED,
    FINISHED,
    INDEXED,
    ROLLED_BACK,
    SWAPPED,
    Migration,
    end,
    phase_of,
    reach,
)
from vecfill.migration.brief_lock import under_lock
from vecfill.migration.look import Found, check_free, check_owner, need
from vecfill.migration.obstacles import obstacles_now
from vecfill.migration.step_options import UNASKED, StepOptions
from vecfill.postgres.database import Connection, Cursor, Database
from vecfill.postgres.exchange_sql import without_new_vector
from vecfill.postgres.migrate_sql import drop_column
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import open_session
from vecfill.postgres.tracking import Tracking
from vecfill.postgres.transaction import transaction
from vecfill.wording import count_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MigrationEnded:
    """What ``migrate finish`` or ``migrate abandon`` did, or with ``dry_run`` would do.

    Attributes:
        table: ``schema.table``.
        phase: ``finished`` or ``abandoned``.
        dropped: the column that is gone; ``kept`` the one that stays.
        ddl: the statements, in order.
        done: False if an earlier call had done it.
    """

    table: str
    phase: str
    dropped: str
    kept: str
    ddl: tuple[str, ...]
    done: bool
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "exit_code"}


def finish_migration(
    target: Target,
    *,
    database: str | Database | None = None,
    step: StepOptions = UNASKED,
) -> MigrationEnded:
    """Drops the old column, its indexes and its tracking; the new column stays, and is tracked.

    Args:
        target: the target with its old column or its new one.
        database: connection string; None takes libpq's environment.
        step: how long to wait for the table, and whether to drop the column.

    Raises:
        ConfigError: no migration; it has not come so far; another object uses the old column; consent was refused.
        LeaseError: a run works on the old column.
        TableLockedError: the table stayed locked.
    """

    def check(found: Found) -> None:
        migration, label = found.migration, found.relation.table.label
        if migration.phase not in (INDEXED, SWAPPED, ROLLED_BACK):
            raise ConfigError(
                f"{label}.{migration.new_column} is not complete yet: the migration is {migration.phase}: run `vecfill "
                "migrate run` first, or `vecfill migrate abandon` to give it up"
            )

    return _ended(target, FINISHED, database, step, check)


def abandon_migration(
    target: Target,
    *,
    database: str | Database | None = None,
    step: StepOptions = UNASKED,
) -> MigrationEnded:
    """Drops the new column, its indexes and its tracking; arguments and errors are those of ``finish_migration``.

    Raises:
        ConfigError: as ``finish_migration``; or the application uses the new column, since the two were swapped.
    """

    def check(found: Found) -> None:
        if found.migration.phase == SWAPPED:
            raise ConfigError(
                f"{found.relation.table.label} was swapped, and the application uses {found.migration.new_column}: run "
                "`vecfill migrate rollback` first"
            )

    return _ended(target, ABANDONED, database, step, check)


def _ended(
    target: Target,
    phase: str,
    database: str | Database | None,
    step: StepOptions,
    check: Callable[[Found], None],
) -> MigrationEnded:
    schema = target.state_schema
    with open_session(database) as session:
        found = session.run(lambda connection: _found(connection, target))
        migration, relation = found.migration, found.relation
        if migration.ended:
            if migration.phase != phase:
                raise ConfigError(f"the migration of {relation.table.label} was {migration.phase} before")
            return _result(relation, migration, phase, [], done=False)
        check(found)
        ddl = _statements(relation, schema, migration, phase)
        if not step.dry_run:
            dropped = _columns(migration, phase)[0]
            session.run(lambda connection: _check_unused(connection, relation, dropped))
            excess = f"{relation.table.label}.{dropped} will be dropped with its vectors and its indexes"
            if phase == FINISHED and (lost := session.run(lambda connection: _lost(connection, found))):
                rows = count_of(lost, "row", "has")
                excess += f", and {rows} no other vector, so `vecfill run` for {migration.new_column} first"
                log.warning("%s", excess, extra={"target": relation.table.label})
            step.confirm(excess)
            number = _target_to_drop(migration, phase)

            def work(cursor: Cursor) -> list[sql.Composed]:
                if phase_of(cursor, schema, migration.id) == phase:
                    return []
                check_free(cursor, schema, number, f"{relation.table.label}.{dropped}")
                return ddl

            under_lock(session, relation, step.locks, work, verb="changed")
        return _result(relation, migration, phase, ddl, done=True)


def _found(connection: Connection, target: Target) -> Found:
    found = need(connection, target)
    if not found.migration.ended:
        check_owner(connection, found.relation, target.state_schema, drops=True)
    return found


def _lost(connection: Connection, found: Found) -> int:
    """The number of rows that have an old vector and no new one."""
    migration, relation = found.migration, found.relation
    columns = migration.old_column, migration.new_column
    with transaction(connection, read_only=True) as cursor:
        row = cursor.execute(without_new_vector(relation, *columns, placeholders=found.placeholder), ()).fetchone()
    return int(row[0]) if row else 0


def _check_unused(connection: Connection, relation: Relation, column: str) -> None:
    """Refuses to drop a column that other objects use, with the statements that take them away."""
    with transaction(connection, read_only=True) as cursor:
        users = obstacles_now(cursor, relation, column)
    if users:
        named = " | ".join(f"{one.kind} {one.name}: {one.before or 'drop it'}" for one in users)
        raise ConfigError(
            f"these use {relation.table.label}.{column}, which is to be dropped: drop them first, and make them again "
            f"for the column that stays: {named}"
        )


def _statements(relation: Relation, schema: str, migration: Migration, phase: str) -> list[sql.Composed]:
    tracking = Tracking.of(schema, _target_to_drop(migration, phase), ())
    return [
        *layout_sql.drop_lost(tracking, relation.table.name.as_string()),
        drop_column(relation, _columns(migration, phase)[0]),
        reach(schema, migration, phase),
        end(schema, migration),
    ]


def _columns(migration: Migration, phase: str) -> tuple[str, str]:
    """The column to drop and the one to keep."""
    both = migration.old_column, migration.new_column
    return both if phase == FINISHED else both[::-1]


def _target_to_drop(migration: Migration, phase: str) -> int:
    return migration.old_target if phase == FINISHED else migration.new_target


def _result(
    relation: Relation, migration: Migration, phase: str, ddl: list[sql.Composed], *, done: bool
) -> MigrationEnded:
    dropped, kept = _columns(migration, phase)
    return MigrationEnded(
        table=relation.table.label,
        phase=phase,
        dropped=dropped,
        kept=kept,
        ddl=tuple(statement.as_string() for statement in ddl),
        done=done,
    )
