"""Short transactions under the lock that keeps others from the table: got at once, or tried again after a pause.

Autovacuum gives way only to a session that has waited for ``deadlock_timeout``, by default longer than others may be
kept waiting. So an attempt first takes a lock that only maintenance conflicts with: it waits for autovacuum, and nobody
who reads or writes rows queues behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql

from vecfill.config.migrate import LockOptions
from vecfill.errors import TableLockedError
from vecfill.ledger.ddl import understood
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.migrate_sql import BEYOND_DEADLOCK_TIMEOUT, HOLDERS, lock_table
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import Session
from vecfill.postgres.transaction import set_local, transaction

STATEMENT_TIMEOUT = "60s"
"""Of the statements that keep nobody waiting, and of those under the lock, which write a few rows of the catalogue."""


def under_lock(
    session: Session,
    relation: Relation,
    options: LockOptions,
    work: Callable[[Cursor], Sequence[sql.Composed]],
    *,
    verb: str,
    until: float | None = None,
) -> None:
    """Locks the table with its partitions, and runs statements, all or none.

    Others queue behind an attempt for at most ``options.lock_timeout`` seconds. Attempts go on, with random pauses, for
    ``options.lock_wait`` seconds.

    Args:
        session: to the target's database.
        relation: the target.
        options: how long to wait.
        work: looks once more, and returns the statements: none if an earlier attempt had been committed although its
            answer was lost.
        verb: what becomes of the table, for messages, such as ``prepared for a migration``.
        until: the end of those seconds by ``time.monotonic``, if they have begun already.

    Raises:
        ConfigError: this role may not; another object depends on what is to be dropped.
        TableLockedError: the table stayed locked.
    """
    until = time.monotonic() + options.lock_wait if until is None else until

    def attempt(connection: Connection) -> None:
        try:
            with understood(relation.table.label, verb):
                _locked(connection, relation, options, work)
        except psycopg.errors.LockNotAvailable as error:
            if time.monotonic() < until:
                raise
            raise TableLockedError(server_message(error)) from error

    while True:
        try:
            session.run(attempt)
            return
        except TableLockedError as error:
            if time.monotonic() >= until:
                holders = session.run(lambda connection: _holders(connection, relation))
                raise TableLockedError(
                    f"{relation.table.label} could not be locked within {options.lock_wait:.0f} s, since other "
                    f"sessions use it in long transactions{holders}: nothing was changed: end these, or raise "
                    "--lock-wait"
                ) from error


def _holders(connection: Connection, relation: Relation) -> str:
    """Names the sessions that hold locks of the table, such as `` (process 17: psql, idle in transaction)``."""
    with transaction(connection, read_only=True) as cursor:
        rows = cursor.execute(HOLDERS, (list(relation.table.tree),)).fetchall()
    found = [f"process {pid}" + (f": {', '.join(filter(None, about))}" if any(about) else "") for pid, *about in rows]
    return f" ({'; '.join(found)})" if found else ""


def _locked(
    connection: Connection,
    relation: Relation,
    options: LockOptions,
    work: Callable[[Cursor], Sequence[sql.Composed]],
) -> None:
    """One attempt; the limit holds for the locks of all partitions together."""
    limit = f"{options.lock_timeout * 1000:.0f}ms"
    with transaction(connection, {"statement_timeout": STATEMENT_TIMEOUT}, first=BEYOND_DEADLOCK_TIMEOUT) as cursor:
        try:
            cursor.execute(lock_table(relation, "SHARE UPDATE EXCLUSIVE"), ())
            set_local(connection, {"lock_timeout": limit, "statement_timeout": limit})
            cursor.execute(lock_table(relation), ())
        except psycopg.errors.QueryCanceled as error:
            raise psycopg.errors.LockNotAvailable(f"no lock of {relation.table.label} within {limit}") from error
        set_local(connection, {"statement_timeout": STATEMENT_TIMEOUT})
        for statement in work(cursor):
            cursor.execute(statement, ())
