"""``vecfill migrate swap``: the application's column carries the new vectors."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace

from psycopg import sql

from vecfill.config.migrate import SwapOptions
from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.encode.model.fingerprint import fingerprint_of
from vecfill.engine.warm import Warm
from vecfill.errors import ConfigError
from vecfill.indexing.index_state import state_of
from vecfill.ledger.migrations import INDEXED, ROLLED_BACK, SWAPPED, Migration
from vecfill.migration.cutover import Cutover
from vecfill.migration.exchange import (
    MigrationSwapped,
    cutover_of,
    drain,
    exchange,
    find_open,
    persistently,
    statements_of,
    wait_for,
)
from vecfill.migration.index_build import current_twins
from vecfill.migration.look import has_default
from vecfill.migration.step_options import UNASKED, StepOptions
from vecfill.postgres.database import Connection, Cursor, Database
from vecfill.postgres.exchange_sql import OLD, without_new_vector
from vecfill.postgres.introspect import inspect
from vecfill.postgres.migrate_sql import suffixed
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import open_session
from vecfill.postgres.transaction import transaction
from vecfill.wording import count_of

log = logging.getLogger(__name__)


def swap_migration(
    target: Target,
    model: Model,
    *,
    database: str | Database | None = None,
    options: SwapOptions | None = None,
    step: StepOptions = UNASKED,
) -> MigrationSwapped:
    """Gives the new column and its indexes the names of the old ones, once every change has its new vector.

    Args:
        target: the target with its old column or its new one.
        model: the new model, which embeds what is queued.
        database: connection string; None takes libpq's environment.
        options: when, and what becomes of views; None takes the defaults.
        step: how long to wait for the table, and whether to swap although rows lose their vectors.

    Raises:
        ConfigError: the migration has not come so far; other objects use the column; changes come too fast.
        LeaseError: a run works on one of the two columns.
        TableLockedError: the table stayed locked.
    """
    options = options or SwapOptions()
    own = fingerprint_of(model)
    with open_session(database) as session, closing(Warm()) as warm:
        found = session.run(lambda connection: find_open(connection, target))
        migration, label = found.migration, found.relation.table.label
        if migration.phase == SWAPPED:
            return MigrationSwapped(
                table=label, phase=SWAPPED, column=migration.new_column, other=migration.old_column, done=False
            )
        if migration.phase not in (INDEXED, ROLLED_BACK):
            raise ConfigError(f"{label}.{migration.new_column} is {migration.phase}: run `vecfill migrate run` first")
        if own.digest != found.digest:
            raise ConfigError(f"the migration of {label} is to {migration.model_name}, and this is {own.name}")
        new = found.new_target(target)
        old = replace(new, column=migration.old_column)
        cut = cutover_of(session, found, old, options, SWAPPED)
        lost = session.run(lambda connection: _ready(connection, cut, old, new))
        ddl = session.run(lambda connection: statements_of(connection, cut))
        if not step.dry_run:
            if lost:  # perhaps only queued
                persistently(lambda _: drain(session, new, model, warm), step.locks)
                lost = session.run(lambda connection: _ready(connection, cut, old, new))
            if lost:
                rows = count_of(lost, "row", "has")
                excess = f"{rows} a vector of the old model and none of the new, and would lose it"
                step.confirm(f"{excess} in {label}.{cut.name}")
            ahead = session.run(lambda connection: inspect(connection, new, text_needed=False, key_needed=False))
            log.info("%s", _beforehand(cut, ahead, migration), extra={"target": label})
            wait_for(options)
            exchange(session, cut, step.locks, lambda: drain(session, new, model, warm))
        return MigrationSwapped(table=label, phase=SWAPPED, column=cut.name, other=cut.freed, ddl=ddl)


def _beforehand(cut: Cutover, new: Relation, migration: Migration) -> str:
    """What no swap can mend, in one line."""
    name, old = cut.name, cut.relation.table.vector
    line = f"from the swap on, queries of {cut.relation.table.label}.{name} must come from {migration.model_name}"
    if (old.kind, old.dim) == (new.table.vector.kind, new.table.vector.dim):
        return f"{line}: the old model's are silently wrong, since the dimension is the same"
    return (
        f"{line}: the old model's are refused; statements that sessions have prepared, and that return {name} itself, "
        "fail with SQLSTATE 0A000 until they are prepared again"
    )


def _ready(connection: Connection, cut: Cutover, old: Target, new: Target) -> int:
    """Checks what need not be looked at under the lock; returns how many rows would lose their vectors.

    Raises:
        ConfigError: an index is missing; the name for the old column is taken; it is NOT NULL.
    """
    relation, label = cut.relation, cut.relation.table.label
    if cut.freed in relation.table.columns:
        raise ConfigError(f"{label} has a column {cut.freed}, and the old column is to have that name: rename it")
    twins = current_twins(connection, old, new)
    with transaction(connection, read_only=True) as cursor:
        _check_null(cursor, cut)
        states = [(twin, state_of(cursor, twin)) for twin in twins]
        for twin, state in states:
            if not (state.valid and state.attached):
                raise ConfigError(f"index {twin.name} is not ready: run `vecfill migrate run` first")
            if cursor.execute(_TAKEN, (twin.schema, suffixed(twin.old, OLD))).fetchone():
                raise ConfigError(f"index {twin.old} is to be named {suffixed(twin.old, OLD)}, which exists: rename it")
        placeholders = has_default(cursor, relation, cut.enters)
        query = without_new_vector(relation, cut.name, cut.enters, placeholders=placeholders)
        row = cursor.execute(query, ()).fetchone()
    return int(row[0]) if row else 0


def _check_null(cursor: Cursor, cut: Cutover) -> None:
    """Refuses a column that the application could not leave out of an INSERT any more."""
    relation, label = cut.relation, cut.relation.table.label
    if relation.table.vector.not_null and not has_default(cursor, relation, cut.name):
        raise ConfigError(
            f"{label}.{cut.name} is NOT NULL, so the application could not insert rows once it is {cut.freed}: run "
            f"ALTER TABLE {relation.table.name.as_string()} ALTER COLUMN {sql.Identifier(cut.name).as_string()} DROP "
            "NOT NULL first"
        )


_TAKEN = """
SELECT 1 FROM pg_catalog.pg_class AS c WHERE c.relname = $2::pg_catalog.text
  AND c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace AS n WHERE n.nspname = $1::pg_catalog.text)
"""
