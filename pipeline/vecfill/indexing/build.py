"""Builds an index in a session of its own settings, says how far it is, and goes on serially where memory lacks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg

from vecfill.background import in_background
from vecfill.config.migrate import IndexOptions
from vecfill.errors import ConfigError
from vecfill.indexing.index_state import build, lacks_shared_memory, state_of
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.index_sql import WantedIndex
from vecfill.postgres.server import CHECK_CLIENT
from vecfill.postgres.session import Session
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

LINE_EVERY_S = 10.0

CHECK_CLIENT_EVERY = "5s"
"""The server ends a build a little after its client has died."""


def build_index(session: Session, wanted: WantedIndex, options: IndexOptions, reason: str) -> tuple[bool, bool]:
    """Builds an index, unless it exists; may be repeated after any fault.

    Args:
        session: closed by the caller after the build, since its settings change.
        wanted: the index.
        options: memory and workers.
        reason: why it is built, for the log.

    Returns:
        Whether it was built now, and whether without parallel workers since the server's shared memory was too small.

    Raises:
        ConfigError: an index of another table has its name; a setting that the server refuses.
        StoppedError: the session was stopped; what is half built is built again the next time.
        psycopg.Error: the build failed; a part of it may remain.
    """
    serial = False

    def work(connection: Connection) -> bool:
        connection.add_notice_handler(told)
        try:
            _configure(connection, options, serial=serial)
            return build(connection, wanted)
        finally:
            connection.remove_notice_handler(told)

    def told(notice: psycopg.errors.Diagnostic) -> None:
        """Such as pgvector's, that the graph does not fit into memory."""
        if notice.severity_nonlocalized in ("NOTICE", "WARNING"):
            log.warning("index %s: %s (see --index-memory)", wanted.name, notice.message_primary)

    log.info("index %s on %s: building, %s", wanted.name, wanted.table, reason)
    with _progress(session.database, wanted):
        try:
            done = session.run(work)
        except psycopg.Error as error:
            if not lacks_shared_memory(error):
                raise
            log.warning(
                "index %s: the server's shared memory is too small for parallel workers (%s): building it serially",
                *(wanted.name, server_message(error)),
            )
            serial = True
            done = session.run(work)
    return done, serial


def check_settings(connection: Connection, options: IndexOptions) -> None:
    """Checks that the server takes the memory for building indexes; changes nothing.

    Raises:
        ConfigError: it does not.
    """
    if options.index_memory is not None:
        with transaction(connection, read_only=True) as cursor, _memory_explained(options.index_memory):
            cursor.execute("SELECT pg_catalog.set_config('maintenance_work_mem', $1, true)", (options.index_memory,))


@contextmanager
def _memory_explained(value: str) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.InvalidParameterValue as error:
        raise ConfigError(f"--index-memory {value!r}: {server_message(error)}: write it as 512MB or 2GB") from error


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
    settings = {
        "statement_timeout": "0",
        "lock_timeout": "0",
        "default_tablespace": "",
        CHECK_CLIENT: CHECK_CLIENT_EVERY,
    }
    if options.index_memory is not None:
        settings["maintenance_work_mem"] = options.index_memory
    connection.execute("RESET max_parallel_maintenance_workers")
    workers = 0 if serial else options.index_workers
    if workers is not None:
        settings["max_parallel_maintenance_workers"] = str(workers)
    for name, value in settings.items():
        try:
            with _memory_explained(value):
                connection.execute("SELECT pg_catalog.set_config($1, $2, false)", (name, value))
        except ConfigError:
            if name != CHECK_CLIENT:  # not every platform has it
                raise


@contextmanager
def _progress(database: Database, wanted: WantedIndex) -> Iterator[None]:
    """Logs the server's progress with a build."""
    ended = threading.Event()

    def look(connection: Connection) -> None:
        with transaction(connection, read_only=True) as cursor:
            state = state_of(cursor, wanted)
        if state.building:
            share = "" if state.done is None else f", {state.done:.0f}%"
            log.info(
                "index %s: %s%s", wanted.name, state.step, share, extra={"index": wanted.name, "percent": state.done}
            )

    def watch() -> None:
        with closing(Session(database, stopped=ended.is_set)) as session:
            while not ended.wait(LINE_EVERY_S):
                try:
                    session.run(look)
                except Exception as error:
                    log.debug("no progress of index %s: %s", wanted.name, error)

    with in_background("index progress", watch, ended.set):
        yield
