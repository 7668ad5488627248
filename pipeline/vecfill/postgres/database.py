"""Where the database is: a connection string in full, and how to connect to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import conninfo, pq

from vecfill.errors import ConfigError
from vecfill.secret import secret_from_command

Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.RawCursor[tuple[Any, ...]]

_DEFAULTS = {"application_name": "vecfill", "connect_timeout": "10", "keepalives_idle": "30", "client_encoding": "UTF8"}

_NO_DATABASE = (
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
    def resolve(
        cls, database: str | None, environ: Mapping[str, str] = os.environ, *, password_command: str | None = None
    ) -> Database:
        """Resolves what the user named, or what libpq's environment names, with every parameter that libpq has.

        Raises:
            ConfigError: nothing names a database, or the text is no connection string.
        """
        from_environment = _libpq_environment(environ)
        if not database and not from_environment.keys() & {"host", "hostaddr", "dbname", "service"}:
            raise ConfigError(_NO_DATABASE)
        if database == "embedded":
            from vecfill.postgres import embedded

            return cls(embedded.start())
        return cls(conninfo.make_conninfo("", **{**from_environment, **_parse(database or "")}), password_command)

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
        token = {"password": self._password_from(self.password_command)} if self.password_command else {}
        full = conninfo.make_conninfo("", **{**_DEFAULTS, **conninfo.conninfo_to_dict(self.conninfo), **token})
        connection = psycopg.connect(full, autocommit=True, prepare_threshold=None, cursor_factory=psycopg.RawCursor)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    @staticmethod
    def _password_from(command: str) -> str:
        return secret_from_command(command, option="--password-command", what="password")


def _parse(database: str) -> dict[str, Any]:
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
