"""Sessions: reconnect when a connection breaks, and do its work again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TypeVar

import psycopg
from psycopg import conninfo
from tenacity import RetryCallState

from vecfill.errors import UnreachableError
from vecfill.interruptible import Stopped, interruptible
from vecfill.postgres import waits
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import server_message, wrap_driver_errors

log = logging.getLogger(__name__)
T = TypeVar("T")


class Session:
    """A connection that is opened at first use and replaced after a fault. Pickles without connection and ``stopped``.

    No transaction stays open between two calls of ``run``.
    """

    def __init__(
        self, database: Database, connection: Connection | None = None, *, stopped: Stopped | None = None
    ) -> None:
        self.database, self._stopped = database, stopped
        self._connection = connection

    @classmethod
    def connect(cls, database: Database, *, stopped: Stopped | None = None) -> Session:
        """Connects, and returns a session with that connection.

        Its ``database`` includes the password that worked, also one from ``.pgpass``, but not one from a password
        command: each worker runs the command again.

        Raises:
            UnreachableError: the server does not answer or rejects the connection.
            ConfigError: the password command printed no password.
            StoppedError: ``stopped`` became true.
        """
        try:
            connection = waits.connected(database, stopped)
        except psycopg.OperationalError as error:
            raise UnreachableError(
                f"cannot connect to {database.label}: {server_message(error)}: "
                "check the address, the server and --database"
            ) from error
        if (password := connection.info.password) and not database.password_command:
            database = replace(database, conninfo=conninfo.make_conninfo(database.conninfo, password=password))
        return cls(database, connection, stopped=stopped)

    def __reduce__(self) -> tuple[type[Session], tuple[Database]]:
        return Session, (self.database,)

    def run(self, work: Callable[[Connection], T], *, stopped: Stopped | None = None) -> T:
        """Calls ``work`` with a connection, and again after a transient fault: it must be safe to repeat.

        A stop interrupts ``work``. A table that another session has locked is waited for.

        Args:
            work: what to do.
            stopped: whether the run should stop; None for the session's own.

        Raises:
            StoppedError: ``stopped`` became true.
            ServerGoneError: the fault lasted for ``waits.RETRY_FOR_S`` seconds.
            TableLockedError: a table was locked for ``waits.LOCKED_FOR_S`` seconds.
            ConfigError: the password command failed for ``waits.RETRY_FOR_S`` seconds.
            psycopg.Error: any other error of the server, unchanged.
        """
        stopped = stopped or self._stopped

        def attempt() -> T:
            connection = self._open(stopped)
            return waits.queried(connection, work, stopped, forget=self._forget)

        return waits.repeated(attempt, self.database.label, stopped, locks=True, before_sleep=self._close_and_log)

    def finish(
        self,
        work: Callable[[Connection], T],
        give_up: waits.GiveUp = waits.never_give_up,
        *,
        stopped: Stopped | None = None,
    ) -> T:
        """Like ``run``, but a stop does not interrupt ``work``, only waits; a locked table is the caller's problem.

        After a stop, it still waits ``waits.END_S`` seconds for a connection.

        Args:
            work: what to do.
            give_up: whether to raise a transient error, unchanged, before the time is over.
            stopped: whether to stop waiting; None for whether the run should stop.
        """
        stopped = stopped or self._stopped

        def attempt() -> T:
            return work(self._open(waits.past_the_end(stopped)))

        return waits.repeated(
            attempt,
            self.database.label,
            stopped,
            locks=False,
            give_up=give_up,
            before_sleep=self._close_and_log,
        )

    def interruptible(self, work: Callable[[], T]) -> T:
        """Calls ``work``, which uses no connection; a stop interrupts it.

        Raises:
            StoppedError: the run is to stop.
        """
        return work() if self._stopped is None else interruptible(work, self._stopped)

    def close(self) -> None:
        """Closes the connection; the next ``run`` opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, stopped: Stopped | None = None) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = waits.connected(self.database, stopped)
        return self._connection

    def _forget(self) -> None:
        self._connection = None

    def _close_and_log(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        locked = isinstance(error, psycopg.errors.LockNotAvailable)
        log.warning(
            "%s: %s; trying again in %.1f s",
            self.database.label,
            server_message(error) if error else "no answer",
            state.upcoming_sleep,
            extra={
                "waits_for": "a locked table" if locked else "the server",
                "wait_s": state.upcoming_sleep,
                "database": self.database.label,
                "sqlstate": getattr(error, "sqlstate", None),
                "attempt": state.attempt_number,
                "seconds": state.seconds_since_start,
            },
        )
        self.close()


@contextmanager
def open_session(database: str | Database | None) -> Iterator[Session]:
    """Connects, and closes the connection at the end; a driver error becomes a DatabaseError."""
    place = Database.resolve(database)
    with wrap_driver_errors(), closing(Session.connect(place)) as session:
        yield session


def reachable(database: Database) -> Database:
    """Connects once to check the database; returns it with the password that worked, see ``Session.connect``."""
    with closing(Session.connect(database)) as session:
        return session.database
