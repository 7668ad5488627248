"""``vecfill migrate run``: fills the new column, builds the twins of the old column's indexes, and drains again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from vecfill.backfill.progress import Progress
from vecfill.backfill.result import EXIT_COMPLETE, EXIT_QUARANTINED, RunResult
from vecfill.backfill.run import run as fill
from vecfill.config.migrate import IndexOptions, LockOptions
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.encode.model.fingerprint import fingerprint_of
from vecfill.engine.warm import Warm
from vecfill.errors import ConfigError
from vecfill.ledger.completed_target import find_completed
from vecfill.ledger.migrations import FILLED, INDEXED, STARTED, SWAPPED, Migration, reach
from vecfill.ledger.registry import Tracked
from vecfill.migration.column_rules import validate_constraints
from vecfill.migration.index_build import BuiltIndex, build_indexes
from vecfill.migration.look import need
from vecfill.migration.step_options import no_consent
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.introspect import inspect
from vecfill.postgres.session import Session, open_session
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

DONE = (EXIT_COMPLETE, EXIT_QUARANTINED)
"""Exit codes of a run after which the indexes can be built; rows that failed are reported."""


@dataclass(frozen=True, kw_only=True)
class MigrationRun:
    """What ``migrate run`` did.

    Attributes:
        table: ``schema.table``.
        column: the new column.
        phase: the last phase that the migration has reached.
        filled: the run that filled the column.
        drained: the run after the indexes were built; None if that was not reached.
        indexes: the twins, with what was done for each.
        exit_code: of the last run.
    """

    table: str
    column: str
    phase: str
    filled: RunResult
    drained: RunResult | None
    indexes: tuple[BuiltIndex, ...]

    @property
    def last(self) -> RunResult:
        """The last run."""
        return self.drained or self.filled

    @property
    def exit_code(self) -> int:
        """The exit code of the last run."""
        return self.last.exit_code

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "table": self.table,
            "column": self.column,
            "phase": self.phase,
            "filled": self.filled.as_dict(),
            "drained": self.drained.as_dict() if self.drained else None,
            "indexes": [vars(index) for index in self.indexes],
            "exit_code": self.exit_code,
        }


def run_migration(
    target: Target,
    model: Model,
    *,
    database: str | Database | None = None,
    options: RunOptions | None = None,
    indexes: IndexOptions | None = None,
    locks: LockOptions | None = None,
    signals: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    consent: Callable[[str], bool] = no_consent,
) -> MigrationRun:
    """Fills the new column and builds its indexes; goes on where an earlier call ended.

    Args:
        target: the target with its old column or its new one.
        model: the new model.
        database: connection string; None takes libpq's environment.
        options: of the runs; they keep vector indexes, of which the new column has none at first.
        indexes: how to build.
        locks: how long to wait for the table when an index of a partition is attached.
        signals: end cleanly on SIGINT and SIGTERM, in the main thread.
        progress: as for ``run``.
        consent: as for ``run``.

    Raises:
        ConfigError: no migration is in progress; another model; or as ``run``.
        LeaseError: another run works on the new column.
        StoppedError: a signal stopped the building of an index.
        VecfillError: as ``run``.
    """
    options = replace(options or RunOptions(), index="keep", offered=("limit",))
    own = fingerprint_of(model)
    with open_session(database) as session, closing(Warm()) as warm:
        migration, new, tracked = session.run(lambda connection: _found(connection, target, own.digest, model.name))
        old, steps = replace(new, column=migration.old_column), _Steps(session, target.state_schema, migration)
        run = partial(fill, new, model, database=session.database, options=options, signals=signals, warm=warm)
        filled = partial(run, progress=progress, consent=consent)
        first, built, second = filled(), tuple[BuiltIndex, ...](), None
        if first.exit_code in DONE and first.outcome != "limit":
            steps.reach(FILLED, after=STARTED)
            how, waits = indexes or IndexOptions(), locks or LockOptions()
            built = build_indexes(session, old, new, tracked, options=how, locks=waits, signals=signals)
            validate_constraints(session, tracked.relation, old)
            second = filled() if any(index.built for index in built) else None
            if (second or first).exit_code in DONE:
                steps.reach(INDEXED, after=FILLED)
        return MigrationRun(
            table=tracked.relation.table.label,
            column=migration.new_column,
            phase=steps.phase,
            filled=first,
            drained=second,
            indexes=built,
        )


class _Steps:
    """Notes the phases that a migration reaches."""

    def __init__(self, session: Session, schema: str, migration: Migration) -> None:
        self.phase = migration.phase
        self._session, self._schema, self._migration = session, schema, migration

    def reach(self, phase: str, *, after: str) -> None:
        """Notes a phase, unless the migration has reached it or gone beyond."""
        if self.phase == after:
            self._session.run(lambda connection: self._note(connection, phase))
            self.phase = phase

    def _note(self, connection: Connection, phase: str) -> None:
        with transaction(connection) as cursor:
            cursor.execute(reach(self._schema, self._migration, phase), ())


def _found(connection: Connection, target: Target, digest: str, name: str) -> tuple[Migration, Target, Tracked]:
    """The migration in progress, and the target that it fills."""
    found = need(connection, target)
    migration, label = found.migration, found.relation.table.label
    if migration.ended:
        raise ConfigError(
            f"the migration of {label} to column {migration.new_column} was {migration.phase}: `vecfill run` keeps "
            "its columns fresh"
        )
    if migration.phase == SWAPPED:
        raise ConfigError(
            f"{label} was swapped: `vecfill run` keeps {migration.new_column} fresh with the new model, and "
            f"{migration.old_column} with the old one"
        )
    if digest != found.digest:
        raise ConfigError(
            f"{label}.{migration.old_column} is being migrated to {migration.model_name}, and this is {name}: pass "
            "--model with the new model and the settings of `vecfill migrate start`"
        )
    new = found.new_target(target)
    relation = inspect(connection, new, text_needed=False, key_needed=False)
    new, tracked = find_completed(connection, new, relation)
    if tracked is None:
        raise ConfigError(f"{label}.{migration.new_column} is no longer tracked: run `vecfill migrate abandon`")
    return migration, new, tracked
