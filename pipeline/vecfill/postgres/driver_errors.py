"""Errors of the driver: as one line of text, whether a retry may help, and the one place that wraps them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from vecfill.errors import DatabaseError, Fault, SecretError, classify
from vecfill.postgres.timeouts import SETTINGS, is_interrupt

TABLE_CHANGED = psycopg.ProgrammingError, psycopg.InternalError, psycopg.NotSupportedError
"""Errors of a statement on a table that another session has changed since it was inspected."""

_INSUFFICIENT = "53"
"""Class of insufficient resources, such as a full disk, which no single row causes."""

_RAISING = frozenset({"exec_stmt_raise", "exec_stmt_assert", "PLy_elog_impl", "PLy_output"})
"""Functions of the server that report what a function in PL/pgSQL or PL/Python raises."""

_FUNCTION = re.compile(r"^(?:[\w/]+ )?function .+$", re.MULTILINE | re.IGNORECASE)
"""A line of an error's context that names a function: ``PL/pgSQL function tell() line 2 at PERFORM``."""


def server_message(error: BaseException) -> str:
    """Returns the server's message and its SQLSTATE in one line, to append to our own message.

    Omits DETAIL of a row fault and of what a function raises: it may quote the row, and user data must not reach a log.
    Of the context, which may quote values too, it takes the innermost function, such as a trigger's.
    """
    if not isinstance(error, psycopg.Error) or not error.diag.message_primary:
        return " ".join(str(error).split())
    function = _FUNCTION.search(error.diag.context or "")
    detail = None if function or classify(error.sqlstate) is Fault.ROW else error.diag.message_detail
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


def is_reported(error: BaseException) -> bool:
    """Whether the server reported the error and kept the connection: a fault of the statement, not of the server."""
    return isinstance(error, psycopg.Error) and error.diag.severity_nonlocalized == "ERROR"


def is_raised(error: psycopg.Error) -> bool:
    """Whether a function of the user raised the error, with whatever SQLSTATE it chose."""
    return error.diag.source_function in _RAISING


def is_row_fault(error: psycopg.Error) -> bool:
    """Whether one row may have caused the error, so that the statement may succeed on the others.

    An error of class *configuration* with a context comes from a function, which may run into it on some rows only;
    without one it comes from our own statement.
    """
    fault = classify(error.sqlstate)
    if fault is Fault.ROW:
        return True
    if not is_reported(error):
        return False
    if fault is Fault.CONFIGURATION:
        return error.diag.context is not None
    if fault is Fault.RESOURCE:
        return not is_interrupt(error)
    return is_raised(error) or (fault is Fault.FATAL and not lacks_resources(error))


def lacks_resources(error: psycopg.Error) -> bool:
    """Whether the server is short of something that its operator may give it, such as space on its disk."""
    return (error.sqlstate or "").startswith(_INSUFFICIENT)


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
    if isinstance(error, psycopg.InternalError) and error.sqlstate is None:
        return True  # the driver met an answer out of place, as of a pooler whose server restarted during a COMMIT
    if isinstance(error, psycopg.OperationalError) or (isinstance(error, psycopg.Error) and error.sqlstate):
        return classify(error.sqlstate) is Fault.TRANSIENT
    return False
