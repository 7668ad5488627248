"""The server's time limits: whether one of them ended a statement, and which."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

SETTINGS = {
    "57014": "statement_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
}
"""Setting by SQLSTATE. The last two end the connection too."""

_INTERRUPT = "ProcessInterrupts"
"""The server's function that reports timeouts and ``pg_cancel_backend``."""


@contextmanager
def transaction_timeout_named(timeout_ms: int) -> Iterator[None]:
    """Names the cause of a lost connection if it lasted for ``transaction_timeout``: a pipeline or COPY hides it.

    Args:
        timeout_ms: the setting; 0 for none.

    Raises:
        TransactionTimeout: instead of an OperationalError without a SQLSTATE.
    """
    started = time.perf_counter()
    try:
        yield
    except psycopg.OperationalError as error:
        if error.sqlstate is None and 0 < timeout_ms * 0.9 <= (time.perf_counter() - started) * 1000:
            raise psycopg.errors.lookup("25P04")(str(error)) from error
        raise


def is_interrupt(error: psycopg.Error) -> bool:
    """Whether the server interrupted the statement itself; a function may raise the same SQLSTATE."""
    return error.diag.source_function in (None, _INTERRUPT)


def timed_out(error: psycopg.Error, seconds: float, statement_timeout_ms: int) -> bool:
    """Whether a time limit ended a statement; an administrator's ``pg_cancel_backend`` gives 57014 too.

    Args:
        error: of the statement.
        seconds: that it took.
        statement_timeout_ms: the limit of its transaction; 0 for none.
    """
    if not is_interrupt(error):
        return False
    if error.sqlstate == "57014":
        return 0 < statement_timeout_ms * 0.9 <= seconds * 1000
    return error.sqlstate in SETTINGS


def setting_of(error: psycopg.Error) -> str:
    """Returns the setting that ended a statement with a timeout."""
    return SETTINGS[error.sqlstate or ""]
