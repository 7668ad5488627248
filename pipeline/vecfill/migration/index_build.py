"""Builds the twins of a column's indexes, under the lease of the new target, and says how far it is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg

from vecfill.config.migrate import IndexOptions, LockOptions
from vecfill.config.target import Target
from vecfill.engine.signals import exit_code, stopping
from vecfill.errors import ConfigError, StoppedError
from vecfill.job import Stop
from vecfill.ledger.lease import Lease
from vecfill.ledger.registry import Tracked
from vecfill.migration.twins import attach, build, lacks_shared_memory, plan_twins, state_of
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.introspect import inspect
from vecfill.postgres.migrate_sql import NewColumn, Twin
from vecfill.postgres.search_sql import EXTENSION_SCHEMA
from vecfill.postgres.server import CHECK_CLIENT
from vecfill.postgres.session import Session, transaction

log = logging.getLogger(__name__)

LEASE_S = 30.0
"""Seconds without a sign of life after which another command may go on."""

LINE_EVERY_S = 10.0

CHECK_CLIENT_EVERY = "5s"
"""The server ends a build a little after its client has died."""


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
        for twin in sorted((twin for twin in twins if twin.parent), key=lambda twin: twin.partitioned):
            session.run(lambda connection, twin=twin: attach(connection, twin, locks.lock_timeout))  # type: ignore[misc]
    return built


def current_twins(connection: Connection, old: Target, new: Target) -> list[Twin]:
    """Returns the twins of the old column's indexes for the new column as it is."""
    relation = inspect(connection, old, text_needed=False, key_needed=False)
    vector = inspect(connection, new, text_needed=False, key_needed=False).table.vector
    with transaction(connection, read_only=True) as cursor:
        schema = None if vector.is_array else (cursor.execute(EXTENSION_SCHEMA, ()).fetchone() or (None,))[0]
    column = NewColumn(name=vector.name, kind=vector.kind, dim=vector.dim or 0, schema=schema)
    return plan_twins(connection, relation, column)


def _built(session: Session, twin: Twin, options: IndexOptions) -> BuiltIndex:
    serial = False

    def work(connection: Connection) -> bool:
        _configure(connection, options, serial=serial)
        return build(connection, twin)

    log.info("index %s on %s: building, as %s on the old column", twin.name, twin.table, twin.old)
    with _progress(session.database, twin):
        try:
            done = session.run(work)
        except psycopg.Error as error:
            if not lacks_shared_memory(error):
                raise
            log.warning(
                "index %s: the server's shared memory is too small for parallel workers (%s): building it serially",
                *(twin.name, server_message(error)),
            )
            serial = True
            done = session.run(work)
    return BuiltIndex(old=twin.old, name=twin.name, table=twin.table, built=done, serial=serial)


def _configure(connection: Connection, options: IndexOptions, *, serial: bool) -> None:
    """Changes settings of the session, which ends after the build; behind a transaction pooler they would not last.

    Raises:
        ConfigError: the server refuses a value; a pooler keeps a build from being serial.
    """
    row = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    if row is None or row[0] != connection.info.backend_pid:
        if serial:
            raise ConfigError(
                "the server's shared memory is too small for a parallel build, and behind a pooler the setting of a "
                "session does not last: connect without the pooler, or ALTER ROLE … SET "
                "max_parallel_maintenance_workers TO 0"
            )
        log.info("behind a pooler: building with the memory, workers and time limits that the role has")
        return
    settings = {"statement_timeout": "0", "lock_timeout": "0", CHECK_CLIENT: CHECK_CLIENT_EVERY}
    if options.index_memory is not None:
        settings["maintenance_work_mem"] = options.index_memory
    connection.execute("RESET max_parallel_maintenance_workers")
    workers = 0 if serial else options.index_workers
    if workers is not None:
        settings["max_parallel_maintenance_workers"] = str(workers)
    for name, value in settings.items():
        try:
            connection.execute("SELECT pg_catalog.set_config($1, $2, false)", (name, value))
        except psycopg.errors.InvalidParameterValue as error:
            if name == CHECK_CLIENT:  # not every platform has it
                continue
            raise ConfigError(f"--index-memory {value!r}: {server_message(error)}: write it as 512MB or 2GB") from error


@contextmanager
def _progress(database: Database, twin: Twin) -> Iterator[None]:
    """Logs the server's progress with a build."""
    ended = threading.Event()

    def look(connection: Connection) -> None:
        with transaction(connection, read_only=True) as cursor:
            state = state_of(cursor, twin)
        if state.building:
            share = "" if state.done is None else f", {state.done:.0f}%"
            log.info("index %s: %s%s", twin.name, state.step, share, extra={"index": twin.name, "percent": state.done})

    def watch() -> None:
        with closing(Session(database, stopped=ended.is_set)) as session:
            while not ended.wait(LINE_EVERY_S):
                try:
                    session.run(look)
                except Exception as error:
                    log.debug("no progress of index %s: %s", twin.name, error)

    thread = threading.Thread(target=watch, name="index progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _explained(stop: Stop) -> Iterator[None]:
    try:
        yield
    except StoppedError as error:
        code = exit_code(stop.reason) or StoppedError.exit_code
        raise StoppedError(f"stopped by {stop.reason} while an index was built: run again to continue", code) from error
