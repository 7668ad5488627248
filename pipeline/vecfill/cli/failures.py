"""What an error says on stderr, and the exit code that it ends a command with."""

from __future__ import annotations

import sys

from vecfill.errors import VecfillError


def described(error: BaseException) -> tuple[str, int] | None:
    """Message in one line, and exit code, of an error of ours or of the server's; None for a defect.

    psycopg is not imported for it: it may not have been needed.
    """
    if isinstance(error, VecfillError):
        return str(error), error.exit_code
    psycopg = sys.modules.get("psycopg")
    if psycopg is not None and isinstance(error, psycopg.Error):
        return f"the server says: {' '.join(str(error).split())}: --verbose shows where", 1
    return None
