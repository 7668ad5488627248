"""``vecfill failures`` and ``retry``: the rows of a tracked target that failed, and when they are tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar

import psycopg

from vecfill.config.retry import RetryOptions
from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.ledger import failure_sql
from vecfill.ledger.completed_target import need_tracked
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.session import open_session
from vecfill.postgres.transaction import transaction
from vecfill.queue_retry import retry_entries

T = TypeVar("T")

NOT_TAKEN = ("key", "set", "dim", "zero_is_missing")
"""Settings of a target that are not options here. ``--text`` is one, as of every other verb, and does not matter."""

NOT_NEEDED = ("text", "text_sql", *NOT_TAKEN)
"""Settings of a target that the ledger knows or that do not matter here."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A row that failed or was refused.

    Attributes:
        key: the key as text.
        model: the model of the last attempt.
        stage: where it failed: ``read``, ``encode`` or ``write``.
        error_class: class of the fault.
        message: the reason.
        attempts: failed attempts of this model on this text.
        last_try: time of the last attempt.
        next_try: when a run tries again, if neither text nor model change before.
    """

    key: str
    model: str
    stage: str
    error_class: str
    message: str
    attempts: int
    last_try: datetime
    next_try: datetime

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "last_try": self.last_try.isoformat(), "next_try": self.next_try.isoformat()}


@dataclass(frozen=True, kw_only=True)
class Failures:
    """The remembered failures of a table, the newest first."""

    table: str
    rows: tuple[Failure, ...]
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"table": self.table, "failures": [row.as_dict() for row in self.rows]}


@dataclass(frozen=True, kw_only=True)
class Retried:
    """What ``retry`` did.

    Attributes:
        table: ``schema.table``.
        rows: failures that are due now, or entries of the queue table that are pending now.
        not_found: given keys for which no failure is remembered.
    """

    table: str
    rows: int
    not_found: tuple[str, ...] = ()
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"table": self.table, "rows": self.rows, "not_found": list(self.not_found)}


def failures(target: Target, *, database: str | Database | None = None) -> Failures:
    """Lists the rows of a tracked target that failed and have not been filled since.

    Args:
        target: its table, column and ``where`` are used.
        database: connection string; None takes libpq's environment.

    Raises:
        ConfigError: no database; the target is not tracked; this role may not read the ledger.
    """

    def look(connection: Connection) -> Failures:
        relation = need_tracked(connection, target, "failures").relation
        with transaction(connection, read_only=True, first=failure_sql.failures(relation)) as cursor:
            rows = tuple(Failure(**dict(zip(Failure.__dataclass_fields__, row, strict=True))) for row in cursor)
        return Failures(table=relation.table.label, rows=rows)

    return _with_database(database, look)


def retry(target: Target, which: RetryOptions, *, database: str | Database | None = None) -> Retried:
    """Makes failed rows due, or puts entries of a queue table back, so that the next run takes them.

    Args:
        target: its table, column and ``where`` are used, and its queue table.
        which: the rows.
        database: connection string; None takes libpq's environment.

    Raises:
        ConfigError: no database; the target is not tracked and has no queue table; this role may not change the ledger.
    """
    if target.queue.table is not None:
        return _with_database(database, lambda connection: _entries(connection, target, which))
    if which.lost:
        raise ConfigError("--lost needs a queue table: set --queue-table, or give --key KEY, --stage STAGE or --all")

    def change(connection: Connection) -> Retried:
        relation = need_tracked(connection, target, "retry").relation
        given = (list(which.keys) or None, which.stage)
        with transaction(connection, first=failure_sql.retry(relation), parameters=given) as cursor:
            keys = {key for (key,) in cursor}
        unknown = tuple(key for key in which.keys if key not in keys)
        return Retried(table=relation.table.label, rows=len(keys), not_found=unknown)

    return _with_database(database, change)


def _entries(connection: Connection, target: Target, which: RetryOptions) -> Retried:
    table, rows = retry_entries(connection, target, which)
    return Retried(table=table, rows=rows)


def _with_database(database: str | Database | None, work: Callable[[Connection], T]) -> T:
    with open_session(database) as session:
        try:
            return session.run(work)
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigError(
                f"the ledger: {server_message(error)}: this role needs the grants that `vecfill track --dry-run` shows"
            ) from error
