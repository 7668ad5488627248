"""Properties of the server and of this role: read once, with the catalogue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import psycopg

from vecfill.errors import ConfigError
from vecfill.postgres.transaction import LOCK_TIMEOUT, set_local

MIN_SERVER = 14
"""The first PostgreSQL with a TID Range Scan; without it each block would read the whole table."""

MIN_PGVECTOR = (0, 5)

STATEMENT_TIMEOUT_MS = 60_000
"""Time limit of a statement that holds row locks; a batch aims at half a second."""

CHECK_CLIENT = "client_connection_check_interval"
"""How often a busy server checks that its client still exists (otherwise ``kill -9`` leaves locks behind)."""

_UNITS_MS = {None: 1, "ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, kw_only=True)
class Server:
    """The server's properties for this role.

    Attributes:
        version: of PostgreSQL, in libpq's form, such as 160004.
        pgvector: version of the extension in this database; None if it is not installed.
        role: name of the current role.
        standby: the server is a hot standby.
        read_only: transactions of this role are read-only by default.
        temporary: this role may create temporary tables.
        block_bytes: size of a page.
        full_pages: the first change of a page after a checkpoint logs the whole page.
        publishes: a publication of updates exists.
        statement_timeout_ms: set for the role or the database; 0 for none.
        idle_timeout_ms: ``idle_in_transaction_session_timeout``; 0 for none.
        transaction_timeout_ms: of PostgreSQL 17 and newer; 0 for none.
        lock_timeout_ms: set for the role or the database, not by our transaction; 0 for none.
    """

    version: int
    pgvector: str | None
    role: str
    standby: bool
    read_only: bool
    temporary: bool
    block_bytes: int
    full_pages: bool
    publishes: bool
    statement_timeout_ms: int
    idle_timeout_ms: int
    transaction_timeout_ms: int
    lock_timeout_ms: int


_SERVER = """
SELECT (SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'vector'::pg_catalog.name),
       CURRENT_USER, pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY'),
       EXISTS (SELECT FROM pg_catalog.pg_publication AS p WHERE p.pubupdate),
       pg_catalog.current_setting('block_size'), pg_catalog.current_setting('in_hot_standby'),
       pg_catalog.current_setting('default_transaction_read_only'),
       pg_catalog.current_setting('full_page_writes'), pg_catalog.current_setting('statement_timeout'),
       pg_catalog.current_setting('idle_in_transaction_session_timeout'),
       COALESCE(pg_catalog.current_setting('transaction_timeout', true), '0'),
       (SELECT s.reset_val FROM pg_catalog.pg_settings AS s WHERE s.name OPERATOR(pg_catalog.=) 'lock_timeout')
"""


def server_of(cursor: Any) -> Server:
    """Queries the server."""
    row = cursor.execute(_SERVER, ()).fetchone()
    pgvector, role, temporary, publishes, block, standby, read_only, full_pages, *timeouts = row
    statement_timeout, idle_timeout, transaction_timeout, lock_timeout = map(milliseconds, timeouts)
    return Server(
        version=cursor.connection.info.server_version,
        pgvector=pgvector,
        role=role,
        standby=standby == "on",
        read_only=read_only == "on",
        temporary=temporary,
        block_bytes=int(block),
        full_pages=full_pages == "on",
        publishes=publishes,
        statement_timeout_ms=statement_timeout,
        idle_timeout_ms=idle_timeout,
        transaction_timeout_ms=transaction_timeout,
        lock_timeout_ms=lock_timeout,
    )


def check_versions(server: int, pgvector: str | None) -> None:
    """Checks that our statements work on this server.

    Args:
        server: version in libpq's form, such as 160004.
        pgvector: version of the extension; None if it is not installed and the column is an array.

    Raises:
        ConfigError: PostgreSQL or pgvector is too old.
    """
    if server // 10_000 < MIN_SERVER:
        raise ConfigError(f"the server is PostgreSQL {server // 10_000}: {MIN_SERVER} or newer is needed: upgrade it")
    if pgvector is not None and version_numbers(pgvector) < MIN_PGVECTOR:
        raise ConfigError(
            f"pgvector is at version {pgvector}: {'.'.join(map(str, MIN_PGVECTOR))} or newer is needed: install it, "
            "then run ALTER EXTENSION vector UPDATE"
        )


def version_numbers(version: str) -> tuple[int, ...]:
    """Parses ``0.8.1`` as (0, 8, 1), up to the first part that is not a number."""
    parts: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def milliseconds(shown: str) -> int:
    """Parses a time setting as the server shows it (``0``, ``1500ms``, ``1min``) into milliseconds."""
    match = re.fullmatch(r"(\d+)([a-z]+)?", shown)
    if match is None:
        raise ValueError(f"{shown!r} is not a time setting: expected a form such as 0, 1500ms or 1min")
    return int(match[1]) * _UNITS_MS[match[2]]


def write_settings(cursor: Any, server: Server) -> dict[str, str]:
    """Returns the settings of writing transactions; never looser than those of the role or the database."""
    settings = {
        "statement_timeout": str(min(STATEMENT_TIMEOUT_MS, server.statement_timeout_ms or STATEMENT_TIMEOUT_MS)),
        "idle_in_transaction_session_timeout": str(min(60_000, server.idle_timeout_ms or 60_000)),
        "jit": "off",  # a batch finishes before JIT compiles, and the planner overestimates its rows
    }
    return settings | _lock_timeout(server) | ({CHECK_CLIENT: "2s"} if _may_check_clients(cursor) else {})


def time_limits(server: Server, lock_ms: int, statement_ms: int) -> dict[str, str]:
    """Returns these time limits as settings, or those of the role where they are shorter."""
    return {
        "lock_timeout": str(min(lock_ms, server.lock_timeout_ms or lock_ms)),
        "statement_timeout": str(min(statement_ms, server.statement_timeout_ms or statement_ms)),
    }


def _lock_timeout(server: Server) -> dict[str, str]:
    """Ends the wait for a lock before another timeout does: that would look like too large a batch."""
    others = (timeout * 3 // 4 for timeout in (server.statement_timeout_ms, server.transaction_timeout_ms))
    shortest = min(filter(None, (server.lock_timeout_ms, *others)), default=None)
    return {"lock_timeout": str(shortest)} if shortest and shortest < milliseconds(LOCK_TIMEOUT) else {}


def _may_check_clients(cursor: Any) -> bool:
    """Whether the server's platform can detect a disconnected client."""
    try:
        with cursor.connection.transaction():
            set_local(cursor.connection, {CHECK_CLIENT: "2s"})
    except psycopg.errors.InvalidParameterValue:
        return False
    return True
