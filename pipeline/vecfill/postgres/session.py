"""Sessions: how a transaction starts, and what happens when a connection breaks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo, sql
from psycopg.abc import QueryNoTemplate
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from vecfill.errors import ServerGoneError, UnreachableError
from vecfill.postgres.database import Connection, Cursor, Database
from vecfill.postgres.driver_errors import is_transient, server_message

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_FOR_S = 120.0
"""Seconds that a broken line or a conflict is retried: a failover of a hosted server takes 30 to 60."""

PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "bytea_output": "hex",
}
"""Settings that decide what a value looks like as text: pinned in every transaction, or a text's hash would depend on
the role that reads it."""

LOCK_TIMEOUT = "5s"
"""Longest wait for a lock of another's, on a row or on the table as a whole (CREATE INDEX takes one): nobody should
have to wait for us because we wait for them."""

_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"


@contextmanager
def transaction(
    connection: Connection,
    settings: Mapping[str, str] = {},
    *,
    read_only: bool = False,
    first: QueryNoTemplate | None = None,
    parameters: Sequence[Any] = (),
) -> Iterator[Cursor]:
    """One short transaction with the pinned settings, and a cursor that speaks binary.

    Its start, its settings and ``first`` travel together: one round trip, where each would wait for one.

    Args:
        connection: from ``Database.connect``.
        settings: further settings that hold for this transaction alone, such as ``lock_timeout``.
        read_only: refuse any change.
        first: the first statement, whose rows the cursor then holds.
        parameters: its parameters.
    """
    local = {
        **PINNED,
        "lock_timeout": LOCK_TIMEOUT,
        **settings,
        **({"transaction_read_only": "on"} if read_only else {}),
    }
    with connection.cursor(binary=True) as cursor:
        try:
            with connection.pipeline():
                connection.execute(_BEGIN)
                set_local(connection, local)
                if first is not None:
                    cursor.execute(first, parameters)
            yield cursor  # type: ignore[misc]
        except BaseException:
            _rollback(connection)
            raise
        connection.commit()


def _rollback(connection: Connection) -> None:
    """Rolls back; a line that cannot even do that is closed, and with it its transaction."""
    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()


def set_local(connection: Connection, settings: Mapping[str, str]) -> None:
    """Changes settings until the transaction ends, without a look at the catalogue, as ``set_config`` would take."""
    for name, value in settings.items():
        connection.execute(sql.SQL("SET LOCAL {} TO {}").format(sql.Identifier(name), sql.Literal(value)))


class Session:
    """A connection that comes back: opened at first use, replaced after a fault. Travels by pickle without its line.

    Nothing is ever left inside a transaction between two calls of ``run``.
    """

    def __init__(self, database: Database, connection: Connection | None = None) -> None:
        self.database = database
        self._connection = connection

    @classmethod
    def connect(cls, database: Database) -> Session:
        """Connects, and returns a session with that line.

        Its ``database`` has the password that worked, also one out of ``.pgpass``; one by command is left out, since it
        is asked for again by each worker.

        Raises:
            UnreachableError: the server does not answer, or refuses.
            ConfigError: the password command gives no password.
        """
        try:
            connection = database.connect()
        except psycopg.OperationalError as error:
            raise UnreachableError(
                f"cannot connect to {database.label}: {server_message(error)}: "
                "check the address, the server and --database"
            ) from error
        if (password := connection.info.password) and not database.password_command:
            database = replace(database, conninfo=conninfo.make_conninfo(database.conninfo, password=password))
        return cls(database, connection)

    def __reduce__(self) -> tuple[type[Session], tuple[Database]]:
        return Session, (self.database,)

    def run(self, work: Callable[[Connection], T]) -> T:
        """Calls ``work`` with a connection, again after a transient fault: it must be safe to repeat.

        Raises:
            ServerGoneError: the fault stayed for ``RETRY_FOR_S`` seconds.
            ConfigError: so long the password command gave none.
            psycopg.Error: any other error of the server, as it is.
        """
        retrying = Retrying(
            retry=retry_if_exception(is_transient),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            stop=stop_after_delay(RETRY_FOR_S),
            before_sleep=self._close_and_log,
            reraise=True,
        )
        try:
            return retrying(lambda: work(self._open()))
        except psycopg.Error as error:
            if is_transient(error):
                self.close()
                raise ServerGoneError(
                    f"{self.database.label} did not recover within {RETRY_FOR_S:.0f} s: {server_message(error)}: "
                    "run again when it answers; what was committed is kept"
                ) from error
            raise

    def close(self) -> None:
        """Closes the connection; the next ``run`` opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self.database.connect()
        return self._connection

    def _close_and_log(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("%s: %s; trying again", self.database.label, server_message(error) if error else "no answer")
        self.close()


def reachable(database: Database) -> Database:
    """Connects once, to see that it works; returns the database with the password that did, see ``Session.connect``."""
    with closing(Session.connect(database)) as session:
        return session.database
