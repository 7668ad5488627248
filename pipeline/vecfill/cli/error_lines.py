"""How a command reports an error on stderr, and with which exit code it ends."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import click

from vecfill.errors import VecfillError

log = logging.getLogger(__name__)


def described(error: BaseException) -> tuple[str, int] | None:
    """Returns the message, in one line, and the exit code of an error of vecfill's or the server's; None for a defect.

    Does not import psycopg, which the command may not have needed.
    """
    if isinstance(error, VecfillError):
        return str(error), error.exit_code
    psycopg = sys.modules.get("psycopg")
    if psycopg is not None and isinstance(error, psycopg.Error):
        return f"the server says: {' '.join(str(error).split())}: --verbose shows where", 1
    return None


def report_failure(error: BaseException, *, table: str | None = None) -> tuple[str, int] | None:
    """Prints an error on stderr in one line, with ``--verbose`` also its traceback, and returns it as ``described``.

    Args:
        error: the error that ended the command, or the run of one table.
        table: the table, where a command works on several.
    """
    if (found := described(error)) is None:
        return None
    message, exit_code = found
    log.debug("traceback of the error below", exc_info=error)
    print_error(message, table=table, error=type(error).__name__, exit_code=exit_code)
    return found


def defect(error: BaseException) -> tuple[str, int]:
    """Returns the message, in one line, and the exit code of an error that vecfill does not know."""
    return " ".join(f"{type(error).__name__}: {error}".split()), 1


def print_json_error(message: str, exit_code: int) -> None:
    """Prints an error that ended the whole command on stdout, as the one JSON object of ``--json``."""
    click.echo(json.dumps({"error": message, "exit_code": exit_code}))


def print_error(message: str, *, table: str | None = None, **fields: Any) -> None:
    """Prints an error on stderr: as a line that begins with ``vecfill:``, or as a record where the log is JSON."""
    from vecfill.cli.logs import logs_json

    if logs_json():
        log.error(message, extra={**({"table": table} if table else {}), **fields})
    else:
        click.echo(f"vecfill: {table}: {message}" if table else f"vecfill: {message}", err=True)
