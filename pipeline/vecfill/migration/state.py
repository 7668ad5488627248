"""``vecfill migrate status``: the truth about a migration, from the ledger and the catalogue."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.indexing.index_state import BuildState, state_of
from vecfill.ledger.completed_target import find_completed
from vecfill.ledger.migrations import INDEXED, ROLLED_BACK, SWAPPED, Migration
from vecfill.ledger.waiting_indexes import still_missing, waits
from vecfill.migration.index_build import current_twins
from vecfill.migration.look import Found, need
from vecfill.migration.obstacles import Obstacle, obstacles_of
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.introspect import inspect
from vecfill.postgres.migrate_sql import Twin
from vecfill.postgres.session import open_session
from vecfill.postgres.transaction import transaction
from vecfill.table_status import Status, status


@dataclass(frozen=True, kw_only=True)
class IndexState:
    """A twin of an index: ``state`` is missing, building, invalid, detached or ready; ``percent`` while it is built."""

    old: str
    name: str
    table: str
    state: str
    percent: float | None = None


@dataclass(frozen=True, kw_only=True)
class MigrationStatus:
    """Where a migration stands.

    Attributes:
        table: ``schema.table``.
        old_column, new_column: the two columns.
        model: the new model.
        phase: the last phase that was reached; ``phases`` has all with their times.
        coverage: of the new column, as ``status`` counts it; None if the migration has ended.
        indexes: the twins of the old column's indexes; none after a swap, when they have their names.
        obstacles: what else uses the old column.
        next: what to do now, in one sentence.
    """

    table: str
    old_column: str
    new_column: str
    model: str
    phase: str
    phases: tuple[tuple[str, datetime], ...]
    coverage: Status | None
    indexes: tuple[IndexState, ...]
    obstacles: tuple[Obstacle, ...]
    next: str
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = asdict(replace(self, coverage=None))
        del found["exit_code"]
        return {
            **found,
            "phases": [{"phase": phase, "at": at.isoformat()} for phase, at in self.phases],
            "coverage": self.coverage.as_dict() if self.coverage else None,
        }


def migration_status(target: Target, *, database: str | Database | None = None) -> MigrationStatus:
    """Says where the migration of a target stands, and what to do next. The role needs SELECT, on the ledger too.

    Args:
        target: the target with its old column or its new one.
        database: connection string; None takes libpq's environment.

    Raises:
        ConfigError: no migration was started.
    """
    with open_session(database) as session:
        found = session.run(lambda connection: _found(connection, target))
        migration, label = found.migration, found.relation.table.label
        if migration.ended:
            kept = replace(target, column=migration.kept)
            waiting = session.run(lambda connection: _waiting(connection, kept))
            return _status(label, migration, next_step=waiting or _AFTER[migration.phase].format(migration.kept))
        new = found.new_target(target)
        old = replace(new, column=migration.old_column)
        counted = status(new, database=session.database)
        swapped = migration.phase == SWAPPED
        indexes = () if swapped else session.run(lambda connection: _indexes(connection, old, new))
        obstacles = session.run(lambda connection: _obstacles(connection, old))
    step = _next(migration, counted, indexes)
    return _status(label, migration, counted=counted, indexes=indexes, obstacles=obstacles, next_step=step)


def _found(connection: Connection, target: Target) -> Found:
    """The migration of a target; without one, an index that a run in place has dropped is worth a word.

    Raises:
        ConfigError: there never was one.
    """
    try:
        return need(connection, target)
    except ConfigError as error:
        if waiting := _waiting(connection, target):
            raise ConfigError(f"{waiting}; {error}") from error
        raise


def _waiting(connection: Connection, target: Target) -> str | None:
    """Names an index of the target that a run has dropped and that waits to be built again; None without one."""
    relation = inspect(connection, target, text_needed=False, key_needed=False)
    _, tracked = find_completed(connection, target, relation)
    waiting = tracked.waiting if tracked else ()
    sentences = (f"{waits(one, waiting)}: the next `vecfill run` does it" for one in still_missing(connection, waiting))
    return next(sentences, None)


def _status(
    label: str,
    migration: Migration,
    *,
    counted: Status | None = None,
    indexes: tuple[IndexState, ...] = (),
    obstacles: tuple[Obstacle, ...] = (),
    next_step: str,
) -> MigrationStatus:
    return MigrationStatus(
        table=label,
        old_column=migration.old_column,
        new_column=migration.new_column,
        model=migration.model_name,
        phase=migration.phase,
        phases=migration.phases,
        coverage=counted,
        indexes=indexes,
        obstacles=obstacles,
        next=next_step,
    )


def _indexes(connection: Connection, old: Target, new: Target) -> tuple[IndexState, ...]:
    twins = current_twins(connection, old, new)
    with transaction(connection, read_only=True) as cursor:
        return tuple(_index(twin, state_of(cursor, twin)) for twin in twins)


def _index(twin: Twin, state: BuildState) -> IndexState:
    if state.building:
        word = "building"
    elif not state.exists:
        word = "missing"
    elif not state.attached:
        word = "detached"
    else:
        word = "ready" if state.valid else "invalid"
    return IndexState(old=twin.old, name=twin.name, table=twin.table, state=word, percent=state.done)


def _obstacles(connection: Connection, old: Target) -> tuple[Obstacle, ...]:
    return obstacles_of(connection, inspect(connection, old, text_needed=False, key_needed=False))


def _next(migration: Migration, counted: Status, indexes: tuple[IndexState, ...]) -> str:
    if migration.phase == SWAPPED:
        return (
            f"queries of {migration.new_column} must come from {migration.model_name} now; keep it fresh with `vecfill "
            f"run`, and {migration.old_column} with the old model for as long as `vecfill migrate rollback` is to be "
            "possible; then run `vecfill migrate finish`"
        )
    queued = counted.ledger.queued if counted.ledger else 0
    if migration.phase not in (INDEXED, ROLLED_BACK) or any(index.state != "ready" for index in indexes):
        return "run `vecfill migrate run` to fill the new column and build its indexes; it goes on where it ended"
    if counted.coverage.open or queued:
        return (
            f"run `vecfill run --column {migration.new_column}` with the new model: some rows of the new column are "
            "behind their texts"
        )
    return (
        f"move the application: read {migration.new_column} with queries of {migration.model_name}, keep both columns "
        "fresh with `vecfill run`, and run `vecfill migrate finish` when nothing reads the old column; an application "
        "that cannot name another column needs `vecfill migrate swap` instead, and its queries must come from the new "
        "model from that moment on: the old model's are errors in another dimension, and silently wrong in the same"
    )


_AFTER = {
    "finished": "nothing to do: `vecfill run --column {}` keeps the new column fresh",
    "abandoned": "nothing to do: `vecfill run --column {}` keeps the old column fresh",
}
