"""What the server and this role say of themselves: asked once, with the catalogue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import psycopg

from vecfill.errors import ConfigError
from vecfill.postgres.session import set_local

MIN_SERVER = 14
"""PostgreSQL with a TID Range Scan, without which each block would read the whole table."""

MIN_PGVECTOR = (0, 5)

STATEMENT_TIMEOUT_MS = 60_000
"""Longest time of one of our statements that hold row locks: a batch aims at half a second."""

CHECK_CLIENT = "client_connection_check_interval"
"""How often a server at work looks whether its client is still there (``kill -9`` leaves locks otherwise)."""

_UNITS_MS = {None: 1, "ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, kw_only=True)
class Server:
    """The server, as this role meets it.

    Attributes:
        pgvector: version of the extension in this database; None where it is not installed.
        role: who we are.
        standby: it only replays.
        read_only: transactions of this role may not write.
        temporary: this role may make temporary tables.
        block_bytes: of a page.
        full_pages: the first change of a page after a checkpoint logs the whole page.
        publishes: there are publications of updates.
        statement_timeout_ms: the role's or the database's; 0 for none.
        idle_timeout_ms: the same of a transaction in which nothing happens.
    """

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


_SERVER = """
SELECT (SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'vector'::pg_catalog.name),
       CURRENT_USER, pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY'),
       EXISTS (SELECT FROM pg_catalog.pg_publication AS p WHERE p.pubupdate),
       pg_catalog.current_setting('block_size'), pg_catalog.current_setting('in_hot_standby'),
       pg_catalog.current_setting('default_transaction_read_only'),
       pg_catalog.current_setting('full_page_writes'), pg_catalog.current_setting('statement_timeout'),
       pg_catalog.current_setting('idle_in_transaction_session_timeout')
"""


def server_of(cursor: Any) -> Server:
    """Asks the server."""
    row = cursor.execute(_SERVER, ()).fetchone()
    pgvector, role, temporary, publishes, block, standby, read_only, full_pages, statement_timeout, idle_timeout = row
    return Server(
        pgvector=pgvector,
        role=role,
        standby=standby == "on",
        read_only=read_only == "on",
        temporary=temporary,
        block_bytes=int(block),
        full_pages=full_pages == "on",
        publishes=publishes,
        statement_timeout_ms=milliseconds(statement_timeout),
        idle_timeout_ms=milliseconds(idle_timeout),
    )


def check_versions(server: int, pgvector: str | None) -> None:
    """Checks that the server is one that our statements work on.

    Args:
        server: as libpq gives it, such as 160004.
        pgvector: version of the extension; None where it is not installed, and the column holds ``real[]``.

    Raises:
        ConfigError: one is too old.
    """
    if server // 10_000 < MIN_SERVER:
        raise ConfigError(f"the server is PostgreSQL {server // 10_000}: {MIN_SERVER} or newer is needed: upgrade it")
    if pgvector is not None and version_numbers(pgvector) < MIN_PGVECTOR:
        raise ConfigError(
            f"pgvector is at version {pgvector}: {'.'.join(map(str, MIN_PGVECTOR))} or newer is needed: install it, "
            "then ALTER EXTENSION vector UPDATE"
        )


def version_numbers(version: str) -> tuple[int, ...]:
    """``0.8.1`` as (0, 8, 1); what is no number ends it."""
    parts: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def milliseconds(shown: str) -> int:
    """A time as the server shows a setting in milliseconds: ``0``, ``1500ms``, ``1min``."""
    match = re.fullmatch(r"(\d+)([a-z]+)?", shown)
    if match is None:
        raise ValueError(f"{shown!r} is no time of a setting")
    return int(match[1]) * _UNITS_MS[match[2]]


def write_settings(cursor: Any, server: Server) -> dict[str, str]:
    """Settings of our writing transactions; never looser than what the role or the database sets."""
    settings = {
        "lock_timeout": "5000",
        "statement_timeout": str(min(STATEMENT_TIMEOUT_MS, server.statement_timeout_ms or STATEMENT_TIMEOUT_MS)),
        "idle_in_transaction_session_timeout": str(min(60_000, server.idle_timeout_ms or 60_000)),
        "jit": "off",  # a batch is over sooner than it compiles, and the planner overrates how many rows it has
    }
    return settings | ({CHECK_CLIENT: "2s"} if _may_check_clients(cursor) else {})


def _may_check_clients(cursor: Any) -> bool:
    """Whether the server's platform can notice a client that is gone."""
    try:
        with cursor.connection.transaction():
            set_local(cursor.connection, {CHECK_CLIENT: "2s"})
    except psycopg.errors.InvalidParameterValue:
        return False
    return True
