"""``vecfill migrate rollback``: the application's column carries the old vectors again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from vecfill.config.migrate import SwapOptions
from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.engine.warm import Warm
from vecfill.errors import ConfigError
from vecfill.ledger.completed_target import find_completed
from vecfill.ledger.migrations import ROLLED_BACK, SWAPPED
from vecfill.migration.cutover import Cutover
from vecfill.migration.exchange import MigrationSwapped, cutover_of, drain, exchange, find_open, statements_of, wait_for
from vecfill.migration.step_options import UNASKED, StepOptions
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.exchange_sql import changed_keys
from vecfill.postgres.introspect import inspect
from vecfill.postgres.session import open_session
from vecfill.postgres.transaction import transaction

MAX_NAMED = 1_000
"""Most keys that a result names."""


def roll_back_migration(
    target: Target,
    model: Model | None = None,
    *,
    database: str | Database | None = None,
    options: SwapOptions | None = None,
    step: StepOptions = UNASKED,
) -> MigrationSwapped:
    """Gives the old column and its indexes their names back.

    Args:
        target: the target with its old column or its new one.
        model: the old model; needed to refresh.
        database: connection string; None takes libpq's environment.
        options: when, what becomes of views, and whether to refresh; None takes the defaults.
        step: how long to wait for the table.

    Raises:
        As ``swap``.
    """
    options = options or SwapOptions()
    if options.refresh and model is None:
        raise ConfigError("--refresh embeds with the old model: pass --model")
    with open_session(database) as session, closing(Warm()) as warm:
        found = session.run(lambda connection: find_open(connection, target))
        migration, label = found.migration, found.relation.table.label
        if migration.phase == ROLLED_BACK:
            return MigrationSwapped(
                table=label, phase=ROLLED_BACK, column=migration.old_column, other=migration.new_column, done=False
            )
        if migration.phase != SWAPPED:
            raise ConfigError(f"the migration of {label} is {migration.phase}: there is no swap to roll back")
        new = found.new_target(target)
        old = replace(new, column=migration.old_column)
        cut = cutover_of(session, found, new, options, ROLLED_BACK)
        ddl = session.run(lambda connection: statements_of(connection, cut))
        if not step.dry_run:
            wait_for(options)
            refreshed = model if options.refresh else None
            exchange(session, cut, step.locks, lambda: drain(session, old, refreshed, warm) if refreshed else None)
        behind = session.run(lambda connection: _behind(connection, cut, old))
        return MigrationSwapped(
            table=label, phase=ROLLED_BACK, column=cut.name, other=cut.freed, ddl=ddl, behind=tuple(behind)
        )


def _behind(connection: Connection, cut: Cutover, old: Target) -> list[str]:
    """The rows whose old vector is behind."""
    named = replace(old, column=cut.name)
    _, tracked = find_completed(connection, named, inspect(connection, named, text_needed=False, key_needed=False))
    if tracked is None:
        return []
    with transaction(connection, read_only=True) as cursor:
        return [key for (key,) in cursor.execute(changed_keys(tracked.relation.ledger), (MAX_NAMED,)).fetchall()]
