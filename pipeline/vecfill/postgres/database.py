"""Which database to use: a complete connection string, and how to connect to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import conninfo, pq

from vecfill.errors import ConfigError
from vecfill.postgres.connection_string import parse
from vecfill.secret import secret_from_command

Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.RawCursor[tuple[Any, ...]]

_DEFAULTS = {"application_name": "vecfill", "connect_timeout": "10", "keepalives_idle": "30"}

_UTF8 = {"client_encoding": "UTF8"}
"""Whatever the user's programs speak: no other encoding holds every text."""

_NO_DATABASE = (
    "no database is named: give --database postgresql://user@host/name, or set VECFILL_DATABASE, DATABASE_URL or "
    'libpq\'s PGHOST, PGDATABASE or PGSERVICE, or write database = "…" in the file given by --config; '
    "--database embedded uses the embedded server of `vecfill demo`"
)


@dataclass(frozen=True)
class Database:
    """A database, with everything that a worker on another machine needs to connect.

    Attributes:
        conninfo: a libpq connection string, with the parameters from this process's environment merged in. It may hold
            a password, so never put it in a message: use ``label``.
        password_command: prints the password and runs at each connect; overrides any other password.
    """

    conninfo: str = field(repr=False)
    password_command: str | None = field(default=None, repr=False)

    @classmethod
    def resolve(
        cls,
        database: str | Database | None,
        environ: Mapping[str, str] = os.environ,
        *,
        password_command: str | None = None,
    ) -> Database:
        """Merges the user's connection string with the environment variables of libpq; a ``Database`` stays as it is.

        Raises:
            ConfigError: nothing names a database, or the text is not a connection string.
        """
        if isinstance(database, Database):
            return database
        from_environment = _libpq_environment(environ)
        if not database and not from_environment.keys() & {"host", "hostaddr", "dbname", "service"}:
            raise ConfigError(_NO_DATABASE)
        if database == "embedded":
            from vecfill.postgres import embedded

            return cls(embedded.start())
        return cls(conninfo.make_conninfo("", **{**from_environment, **parse(database or "")}), password_command)

    @property
    def label(self) -> str:
        """``user@host:port/name`` for messages, without the password."""
        parts = conninfo.conninfo_to_dict(self.conninfo)
        user = f"{parts['user']}@" if parts.get("user") else ""
        port = f":{parts['port']}" if parts.get("port") else ""
        return f"{user}{parts.get('host') or 'localhost'}{port}/{parts.get('dbname') or ''}"

    def connect(self) -> Connection:
        """Opens a connection: autocommit, READ COMMITTED, UTF-8, no prepared statements (poolers lose them).

        Its cursors use PostgreSQL's own ``$1`` placeholders, so a ``%`` in the user's SQL has no special meaning.

        Raises:
            ConfigError: the password command printed no password.
        """
        token = {"password": self._password_from(self.password_command)} if self.password_command else {}
        full = conninfo.make_conninfo("", **{**_DEFAULTS, **conninfo.conninfo_to_dict(self.conninfo), **_UTF8, **token})
        connection = psycopg.connect(full, autocommit=True, prepare_threshold=None, cursor_factory=psycopg.RawCursor)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    @staticmethod
    def _password_from(command: str) -> str:
        return secret_from_command(command, option="--password-command", what="password")


def _libpq_environment(environ: Mapping[str, str]) -> dict[str, str]:
    options = ((option.keyword.decode(), (option.envvar or b"").decode()) for option in pq.Conninfo.get_defaults())
    return {keyword: environ[variable] for keyword, variable in options if environ.get(variable)}
