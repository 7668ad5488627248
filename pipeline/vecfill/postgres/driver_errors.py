"""Errors of the driver: as one line of text, whether a retry may help, and the one place that wraps them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from vecfill.errors import DatabaseError, Fault, SecretError, classify
from vecfill.postgres.timeouts import SETTINGS

_FUNCTION = re.compile(r"^(?:[\w/]+ )?function .+$", re.MULTILINE | re.IGNORECASE)
"""A line of an error's context that names a function: ``PL/pgSQL function tell() line 2 at PERFORM``."""


def server_message(error: BaseException) -> str:
    """Returns the server's message and its SQLSTATE in one line, to append to our own message.

    Omits DETAIL for a row fault: it quotes the row, and user data must not reach a log. Of the context, which may quote
    values too, it takes the innermost function, such as a trigger's.
    """
    if not isinstance(error, psycopg.Error) or not error.diag.message_primary:
        return " ".join(str(error).split())
    detail = error.diag.message_detail if classify(error.sqlstate) is not Fault.ROW else None
    function = _FUNCTION.search(error.diag.context or "")
    more = detail, error.diag.message_hint, function and f"in {function[0]}"
    parts = [error.diag.message_primary, *(f"({one})" for one in more if one)]
    return " ".join(f"{' '.join(parts)} (SQLSTATE {error.sqlstate})".split())


@contextmanager
def wrap_driver_errors() -> Iterator[None]:
    """Turns a driver error that no other code handled into a DatabaseError. The only place that does so.

    Raises:
        DatabaseError: with the server's message and its SQLSTATE.
    """
    try:
        yield
    except psycopg.Error as error:
        setting = SETTINGS.get(error.sqlstate or "")
        remedy = f": if a timeout ended it, raise {setting} of this role" if setting else ""
        raise DatabaseError(f"database error: {server_message(error)}{remedy}") from error


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed if it is repeated on a new connection.

    A false positive costs two minutes of retries before the same error; a false negative ends a run that could have
    continued. Lock timeouts are the caller's: another session may hold a lock for hours.
    """
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return False
    if isinstance(error, psycopg.errors.ProtocolViolation) and error.diag.severity_nonlocalized == "ERROR":
        return False  # binary data of another type, while the connection stays; a pooler's refusals are FATAL
    if isinstance(error, SecretError):
        return True
    if isinstance(error, psycopg.OperationalError) or (isinstance(error, psycopg.Error) and error.sqlstate):
        return classify(error.sqlstate) is Fault.TRANSIENT
    return False
