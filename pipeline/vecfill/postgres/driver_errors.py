"""The driver's errors: their text in one line, whether a retry may help, and the one place that makes them ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from vecfill.errors import DatabaseError, Fault, SecretError, classify


def server_message(error: BaseException) -> str:
    """The server's message and its SQLSTATE in one line, for the end of a message of ours.

    A row's fault comes without DETAIL, which quotes the row: the user's data has no place in a log.
    """
    if not isinstance(error, psycopg.Error) or not error.diag.message_primary:
        return " ".join(str(error).split())
    detail = error.diag.message_detail if classify(error.sqlstate) is not Fault.ROW else None
    parts = [error.diag.message_primary, *(f"({more})" for more in (detail, error.diag.message_hint) if more)]
    return " ".join(f"{' '.join(parts)} (SQLSTATE {error.sqlstate})".split())


@contextmanager
def wrap_driver_errors() -> Iterator[None]:
    """Raises an error of the driver that nobody has explained as ours: the one place where that is done.

    Raises:
        DatabaseError: with the server's message and its SQLSTATE.
    """
    try:
        yield
    except psycopg.Error as error:
        raise DatabaseError(f"the server says: {server_message(error)}") from error


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
