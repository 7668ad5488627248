"""The server: versions with known bugs, what it lets this role do, and what is in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg

from vecfill.diagnosis import queries
from vecfill.diagnosis.finding import Finding, advice, ok, problem
from vecfill.diagnosis.look import Examined, Look, statement
from vecfill.postgres.known_problems import SOUND_PGVECTOR
from vecfill.postgres.server import MIN_PGVECTOR, MIN_SERVER, Server, version_numbers

BROKEN_CONCURRENTLY = range(140_000, 140_004)
"""PostgreSQL 14.0 to 14.3: CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY could make corrupt indexes."""

SHORT_MS = 5_000
"""Time limit of a statement below which a batch of half a second may meet it on a busy server."""

MANY_STATEMENTS, ROLLBACK_SHARE = 1_000, 0.2


def server_version(look: Look) -> Iterator[Finding]:
    """Versions of PostgreSQL that are too old, or have a bug that concerns indexes."""
    version = look.server.version
    shown = f"PostgreSQL {version // 10_000}.{version % 10_000}"
    if version // 10_000 < MIN_SERVER:
        yield problem("server-version", f"{shown} is too old: vecfill needs {MIN_SERVER} or newer: upgrade the server")
    elif version in BROKEN_CONCURRENTLY:
        yield problem(
            "server-version",
            f"{shown} can make corrupt indexes by CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY: install 14.4 or "
            "newer, then rebuild the indexes that were made so",
            statement("REINDEX TABLE {}", look.name),
        )
    else:
        yield ok("server-version", shown)


def pgvector_version(look: Look) -> Iterator[Finding]:
    """A pgvector that is absent, too old, or older than the one on the server's disk; HNSW bugs: ``known_problems``."""
    update, version = "ALTER EXTENSION vector UPDATE;", look.server.pgvector
    (there,) = look.ask(queries.PGVECTOR_AVAILABLE) or (None,)
    if version is None:
        make = ("CREATE EXTENSION vector;",) if there else ()
        yield advice("pgvector-version", "this database has no pgvector, which searches and vector columns need", *make)
    elif version_numbers(version) < MIN_PGVECTOR:
        yield problem("pgvector-version", f"pgvector {version} is too old: vecfill needs 0.5 or newer", update)
    elif version_numbers(version) < SOUND_PGVECTOR:
        yield advice(
            "pgvector-version",
            f"pgvector {version} has bugs that can damage HNSW indexes: install 0.8.4 or newer before you make one",
            update,
        )
    elif there and version_numbers(there.version) > version_numbers(version):
        yield advice("pgvector-version", f"pgvector is at {version}, and {there.version} is installed", update)
    else:
        yield ok("pgvector-version", f"pgvector {version}")


def read_only(look: Look) -> Iterator[Finding]:
    """A standby, or a role or database that is read-only by default."""
    server, role = look.server, look.role
    if server.standby:
        yield problem("read-only", "this server is a standby: connect to the primary to write vectors")
    elif server.read_only:
        yield problem(
            "read-only",
            f"transactions of role {server.role} are read-only by default (default_transaction_read_only)",
            f"ALTER ROLE {role} SET default_transaction_read_only = off;",
        )
    else:
        yield ok("read-only", "the server and this role accept writes")


def timeouts(look: Look) -> Iterator[Finding]:
    """Time limits that a batch may meet."""
    yield from short_timeouts(look.server, look.role)


def short_timeouts(server: Server, role: str) -> Iterator[Finding]:
    """Judges the time limits of a role."""
    limits = {
        "statement_timeout": server.statement_timeout_ms,
        "transaction_timeout": server.transaction_timeout_ms,
        "idle_in_transaction_session_timeout": server.idle_timeout_ms,
    }
    short = {name: limit for name, limit in limits.items() if 0 < limit < SHORT_MS}
    for name, limit in short.items():
        what = f"{name} of role {server.role} is {limit:,} ms, and a batch may take that long on a busy server"
        yield advice("timeouts", what, f"ALTER ROLE {role} SET {name} = '60s';")
    if not short:
        given = ", ".join(f"{name} {limit / 1000:g} s" for name, limit in limits.items() if limit)
        yield ok("timeouts", given or "no time limits")


def pooler(look: Look) -> Iterator[Finding]:
    """Whether a pooler is between us and the server, and whether it hands out server connections by transaction.

    A pooler invents the process number that libpq knows; and two of our connections that meet the same server process
    are not sessions of their own.
    """
    own = look.ask(queries.BACKEND)[0].pid
    if own == look.connection.info.backend_pid:
        yield ok("pooler", "none: libpq and the server name the same process")
        return
    try:
        with closing(look.database.connect()) as second:
            row = second.execute(queries.BACKEND).fetchone()
    except psycopg.OperationalError:
        yield ok("pooler", "there is one: the process numbers of libpq and the server differ")
        return
    if row and row[0] == own:
        yield ok(
            "pooler",
            "a pooler in transaction mode, since two of our connections met the same server process; vecfill is made "
            "for it: keep --max-connections below the size of its pool",
        )
    else:
        yield ok("pooler", "there is one, in session mode as it seems: two of our connections met different processes")


def rollbacks(look: Look) -> Iterator[Finding]:
    """A large share of transactions that failed."""
    (row,) = look.ask(queries.ROLLBACKS)
    total = row.committed + row.rolled_back
    share = row.rolled_back / total if total else 0.0
    if row.rolled_back > MANY_STATEMENTS and share > ROLLBACK_SHARE:
        yield advice(
            "rollbacks",
            f"{row.rolled_back:,} of {total:,} transactions of this database were rolled back ({share:.0%}) since its "
            "statistics began: read the server's log for the error that repeats",
        )
    else:
        yield ok("rollbacks", f"{row.rolled_back:,} of {total:,} transactions were rolled back")


def replication_role(look: Examined) -> Iterator[Finding]:
    """Settings that keep triggers from firing: of a role, a database or the whole server."""
    if look.tracked is None:
        return
    found = look.ask(queries.REPLICATION_ROLE)
    for row in found:
        mend = f"ALTER ROLE {row.role}" if row.role else "ALTER SYSTEM"
        mend += f" IN DATABASE {row.database}" if row.database else ""
        scope = mend.removeprefix("ALTER ") if row.role else "every session"
        yield problem(
            "replication-role",
            f"session_replication_role is {row.value} for {scope}: its changes fire no trigger of "
            "tracking; after the mend, find what changed meanwhile",
            f"{mend} RESET session_replication_role;",
            *(() if row.role else ("SELECT pg_reload_conf();",)),
            look.run_command("--audit"),
        )
    if not found:
        yield ok("replication-role", "session_replication_role is origin for every role")


CHECKS = {
    "server-version": server_version,
    "pgvector-version": pgvector_version,
    "read-only": read_only,
    "timeouts": timeouts,
    "pooler": pooler,
    "rollbacks": rollbacks,
}
COLUMN_CHECKS = {"replication-role": replication_role}
