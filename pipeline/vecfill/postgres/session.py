"""Connections: where the database is, how a transaction starts, and what happens when the line breaks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo, pq, sql
from psycopg.abc import QueryNoTemplate
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from vecfill.errors import ConfigError, Fault, SecretError, ServerGoneError, UnreachableError, classify
from vecfill.secret import secret_by

log = logging.getLogger(__name__)
T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.RawCursor[tuple[Any, ...]]

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

_DEFAULTS = {"application_name": "vecfill", "connect_timeout": "10", "keepalives_idle": "30", "client_encoding": "UTF8"}

_WAYS = (
    "no database is named: give --database postgresql://user@host/name, or set VECFILL_DATABASE, DATABASE_URL or "
    'libpq\'s PGHOST, PGDATABASE or PGSERVICE, or write database = "…" in the file given by --config; '
    "--database embedded takes the embedded server of `vecfill demo`"
)


@dataclass(frozen=True)
class Database:
    """Where the database is, in full: what a worker on another machine needs to connect.

    Attributes:
        conninfo: a libpq connection string with everything that this process's environment adds to it. It may hold
            a password, and so is never part of a message: use ``label``.
        password_command: prints the password, and is run at each connect; it goes before any other password.
    """

    conninfo: str = field(repr=False)
    password_command: str | None = field(default=None, repr=False)

    @classmethod
    def named(
        cls, database: str | None, environ: Mapping[str, str] = os.environ, *, password_command: str | None = None
    ) -> Database:
        """Resolves what the user named, or what libpq's environment names, with every parameter that libpq has.

        Raises:
            ConfigError: nothing names a database, or the text is no connection string.
        """
        from_environment = _libpq_environment(environ)
        if not database and not from_environment.keys() & {"host", "hostaddr", "dbname", "service"}:
            raise ConfigError(_WAYS)
        if database == "embedded":
            from vecfill.postgres import embedded

            return cls(embedded.start())
        return cls(conninfo.make_conninfo("", **{**from_environment, **_parsed(database or "")}), password_command)

    @property
    def label(self) -> str:
        """``user@host:port/name``, without the password: for messages."""
        parts = conninfo.conninfo_to_dict(self.conninfo)
        user = f"{parts['user']}@" if parts.get("user") else ""
        port = f":{parts['port']}" if parts.get("port") else ""
        return f"{user}{parts.get('host') or 'localhost'}{port}/{parts.get('dbname') or ''}"

    def connect(self) -> Connection:
        """Opens a connection: autocommit, READ COMMITTED, UTF-8, no prepared statements (poolers lose them).

        Its cursors take PostgreSQL's own ``$1`` placeholders, so that a ``%`` in the user's SQL is just a ``%``.

        Raises:
            ConfigError: the password command gives none.
        """
        token = {"password": self._asked_for(self.password_command)} if self.password_command else {}
        full = conninfo.make_conninfo("", **{**_DEFAULTS, **conninfo.conninfo_to_dict(self.conninfo), **token})
        connection = psycopg.connect(full, autocommit=True, prepare_threshold=None, cursor_factory=psycopg.RawCursor)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    @staticmethod
    def _asked_for(command: str) -> str:
        return secret_by(command, option="--password-command", what="password")

    def reachable(self) -> Database:
        """Connects once, to see that it works; see ``Session.to``."""
        with closing(Session.to(self)) as session:
            return session.database


def _parsed(database: str) -> dict[str, Any]:
    """The parts of a connection string. Messages leave out the value and libpq's words: both may hold a password."""
    try:
        given = conninfo.conninfo_to_dict(database)
    except psycopg.ProgrammingError:
        raise ConfigError(
            "the database that is named is not a connection string: "
            "write postgresql://user@host:5432/name or 'host=… dbname=…'"
        ) from None
    if any("@" in str(given.get(part, "")) for part in ("host", "dbname")):
        raise ConfigError(
            "the database that is named has an @ or a / in its password: write %40 or %2F for it, or give the password "
            "by PGPASSWORD or ~/.pgpass"
        )
    return given


def _libpq_environment(environ: Mapping[str, str]) -> dict[str, str]:
    options = ((option.keyword.decode(), (option.envvar or b"").decode()) for option in pq.Conninfo.get_defaults())
    return {keyword: environ[variable] for keyword, variable in options if environ.get(variable)}


def said(error: BaseException) -> str:
    """The server's message and its SQLSTATE in one line, for the end of a message of ours.

    A row's fault comes without DETAIL, which quotes the row: the user's data has no place in a log.
    """
    if not isinstance(error, psycopg.Error) or not error.diag.message_primary:
        return " ".join(str(error).split())
    detail = error.diag.message_detail if classify(error.sqlstate) is not Fault.ROW else None
    parts = [error.diag.message_primary, *(f"({more})" for more in (detail, error.diag.message_hint) if more)]
    return " ".join(f"{' '.join(parts)} (SQLSTATE {error.sqlstate})".split())


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
            _undo(connection)
            raise
        connection.commit()


def _undo(connection: Connection) -> None:
    """Rolls back; a line that cannot even do that is closed, and with it its transaction."""
    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()


def set_local(connection: Connection, settings: Mapping[str, str]) -> None:
    """Changes settings until the transaction ends, without a look at the catalogue, as ``set_config`` would take."""
    for name, value in settings.items():
        connection.execute(sql.SQL("SET LOCAL {} TO {}").format(sql.Identifier(name), sql.Literal(value)))


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed when it is done again on a new connection.

    A wrong yes costs two minutes of retries before the same error; a wrong no ends a run that could have gone on. Locks
    are for the caller: who holds one may do so for hours.
    """
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return False
    if isinstance(error, SecretError):
        return True
    if isinstance(error, psycopg.OperationalError) or (isinstance(error, psycopg.Error) and error.sqlstate):
        return classify(error.sqlstate) is Fault.TRANSIENT
    return False


class Session:
    """A connection that comes back: opened at first use, replaced after a fault. Travels by pickle without its line.

    Nothing is ever left inside a transaction between two calls of ``run``.
    """

    def __init__(self, database: Database, connection: Connection | None = None) -> None:
        self.database = database
        self._connection = connection

    @classmethod
    def to(cls, database: Database) -> Session:
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
                f"cannot connect to {database.label}: {said(error)}: check the address, the server and --database"
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
            before_sleep=self._drop,
            reraise=True,
        )
        try:
            return retrying(lambda: work(self._open()))
        except psycopg.Error as error:
            if is_transient(error):
                self.close()
                raise ServerGoneError(
                    f"{self.database.label} did not recover within {RETRY_FOR_S:.0f} s: {said(error)}: "
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

    def _drop(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("%s: %s; trying again", self.database.label, said(error) if error else "no answer")
        self.close()
