"""``kill -9`` of our own process, at each place that makes a difference."""

from __future__ import annotations

import os
import signal

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row


def killed_before_commit(number: int, work) -> bool:
    """Forks a process that does the work and is killed before its commit of this number; False if it made fewer."""
    return _killed(number, psycopg.Connection, "commit", work)


def killed_before_written_commit(number: int, work) -> bool:
    """The same, where only transactions that wrote count: a kill before the end of another leaves the same behind."""
    return _killed(number, psycopg.Connection, "commit", work, counts=_wrote)


def killed_before_statement(number: int, work) -> bool:
    """The same for a statement of a cursor, after the first LOCK TABLE."""
    return _killed(number, psycopg.RawCursor, "execute", work, begins="LOCK TABLE")


def _wrote(connection: psycopg.Connection) -> bool:
    if connection.info.transaction_status == TransactionStatus.INERROR:
        return False
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() != (None,)


def _killed(number: int, kind: type, name: str, work, *, begins: str = "", counts=lambda _: True) -> bool:
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, -signal.SIGKILL)
        return code != 0
    code, original, calls, begun = 1, getattr(kind, name), iter(range(1, number)), not begins

    def call_or_die(self, *arguments, **options):
        nonlocal begun
        if begun and counts(self) and next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        begun = begun or begins in str(arguments[:1])
        return original(self, *arguments, **options)

    try:
        setattr(kind, name, call_or_die)
        work()
        code = 0
    finally:
        os._exit(code)
