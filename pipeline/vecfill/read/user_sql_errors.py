"""Errors that the user's SQL causes while rows are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from vecfill.bisection import SharedFaultError
from vecfill.errors import ConfigError, DatabaseError, TooSlowError
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation


@contextmanager
def explain_user_sql_errors(relation: Relation) -> Iterator[None]:
    """Attributes an error on every row, such as division by zero, or an attempt to write, to the user's SQL.

    Raises:
        ConfigError: with the server's message.
        DatabaseError: the server's data is corrupt, or every row takes longer than a time limit.
    """
    try:
        yield
    except (SharedFaultError, psycopg.errors.ReadOnlySqlTransaction) as error:
        cause: BaseException = error
        while cause.__cause__:
            cause = cause.__cause__
            if isinstance(cause, TooSlowError):
                raise DatabaseError(f"every row of {relation.table.label} that was tried {cause}") from error
        if isinstance(cause, psycopg.Error) and (cause.sqlstate or "").startswith("XX"):
            raise DatabaseError(f"{relation.table.label} cannot be read: {server_message(cause)}") from error
        raise ConfigError(
            f"--where or --text fails on the rows of {relation.table.label}: {server_message(cause)}: "
            "change it so that it works on every row"
        ) from error
