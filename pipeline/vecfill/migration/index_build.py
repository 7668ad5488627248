"""Builds the twins of a column's indexes, under the lease of the new target, and says how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from vecfill.config.migrate import IndexOptions, LockOptions
from vecfill.config.target import Target
from vecfill.engine.signals import exit_code, stopping
from vecfill.errors import ConfigError, StoppedError
from vecfill.indexing.build import build_index
from vecfill.indexing.index_state import attach, describe, state_of
from vecfill.job import Stop
from vecfill.ledger.lease import Lease
from vecfill.ledger.migrations import SWAPPED
from vecfill.ledger.registry import Tracked
from vecfill.migration.look import need
from vecfill.migration.twins import plan_twins
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.index_sql import build_statements
from vecfill.postgres.introspect import inspect
from vecfill.postgres.migrate_sql import NewColumn, Twin
from vecfill.postgres.search_sql import EXTENSION_SCHEMA
from vecfill.postgres.session import Session, open_session
from vecfill.postgres.transaction import transaction

LEASE_S = 30.0
"""Seconds without a sign of life after which another command may go on."""


@dataclass(frozen=True, kw_only=True)
class BuiltIndex:
    """An index on the new column.

    Attributes:
        old: name of the index on the old column; ``name`` is that of its twin.
        table: the table or partition.
        built: it was built now.
        serial: without parallel workers, since the server's shared memory was too small for them.
    """

    old: str
    name: str
    table: str
    built: bool
    serial: bool = False


def build_indexes(
    session: Session,
    old: Target,
    new: Target,
    tracked: Tracked,
    *,
    options: IndexOptions,
    locks: LockOptions,
    signals: bool,
) -> tuple[BuiltIndex, ...]:
    """Builds what is missing on the new column of what the old one has.

    Raises:
        LeaseError: another run works on the new column.
        StoppedError: a signal stopped it; what is half built is built again the next time.
        ConfigError: an index of another table has the name of a twin; a setting that the server refuses.
    """
    twins = session.run(lambda connection: current_twins(connection, old, new))
    if not twins:
        return ()
    stop = Stop()
    with (
        stopping(stop, signals=signals),
        _explained(stop),
        closing(Session(session.database, stopped=stop.is_set)) as own,
        Lease(own, LEASE_S, stop=stop.set) as lease,
    ):
        own.run(lambda connection: lease.take(connection, tracked))
        built = tuple(_built(own, twin, options) for twin in twins)
        lease.check(stop.reason)
        for twin in twins:
            session.run(lambda connection, twin=twin: describe(connection, twin, locks.lock_timeout))  # type: ignore[misc]
        for twin in sorted((twin for twin in twins if twin.parent), key=lambda twin: twin.partitioned):
            session.run(lambda connection, twin=twin: attach(connection, twin, locks.lock_timeout))  # type: ignore[misc]
    return built


def index_statements(target: Target, *, database: str | Database | None = None) -> tuple[str, ...]:
    """Returns the statements with which ``run_migration`` would build the indexes that are not ready; runs none.

    Raises:
        ConfigError: no migration is in progress.
    """
    with open_session(database) as session:
        found = session.run(lambda connection: need(connection, target))
        if found.migration.ended or found.migration.phase == SWAPPED:
            raise ConfigError(f"the migration of {found.relation.table.label} is {found.migration.phase}")
        new = found.new_target(target)
        old = replace(new, column=found.migration.old_column)
        return session.run(lambda connection: _statements(connection, old, new))


def _statements(connection: Connection, old: Target, new: Target) -> tuple[str, ...]:
    twins = current_twins(connection, old, new)
    with transaction(connection, read_only=True) as cursor:
        states = [(twin, state_of(cursor, twin)) for twin in twins]
    missing = [twin for twin, state in states if not (state.valid and state.attached)]
    return tuple(statement.as_string() for statement in build_statements(missing))


def current_twins(connection: Connection, old: Target, new: Target) -> list[Twin]:
    """Returns the twins of the old column's indexes for the new column as it is."""
    relation = inspect(connection, old, text_needed=False, key_needed=False)
    vector = inspect(connection, new, text_needed=False, key_needed=False).table.vector
    with transaction(connection, read_only=True) as cursor:
        schema = None if vector.is_array else (cursor.execute(EXTENSION_SCHEMA, ()).fetchone() or (None,))[0]
    column = NewColumn(name=vector.name, kind=vector.kind, dim=vector.dim or 0, schema=schema)
    return plan_twins(connection, relation, column)


def _built(session: Session, twin: Twin, options: IndexOptions) -> BuiltIndex:
    done, serial = build_index(session, twin, options, f"as {twin.old} on the old column")
    return BuiltIndex(old=twin.old, name=twin.name, table=twin.table, built=done, serial=serial)


@contextmanager
def _explained(stop: Stop) -> Iterator[None]:
    try:
        yield
    except StoppedError as error:
        code = exit_code(stop.reason) or StoppedError.exit_code
        raise StoppedError(f"stopped by {stop.reason} while an index was built: run again to continue", code) from error
