"""The server's time limits: whether one of them ended a statement, and which."""

from __future__ import annotations

import psycopg

SETTINGS = {
    "57014": "statement_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
}
"""Setting by SQLSTATE. The last two end the connection too."""


def timed_out(error: psycopg.Error, seconds: float, statement_timeout_ms: int) -> bool:
    """Whether a time limit ended a statement; an administrator's ``pg_cancel_backend`` gives 57014 too.

    Args:
        error: of the statement.
        seconds: that it took.
        statement_timeout_ms: the limit of its transaction; 0 for none.
    """
    if error.sqlstate == "57014":
        return 0 < statement_timeout_ms * 0.9 <= seconds * 1000
    return error.sqlstate in SETTINGS


def setting_of(error: psycopg.Error) -> str:
    """Returns the setting that ended a statement with a timeout."""
    return SETTINGS[error.sqlstate or ""]
