"""The command line: one file per verb. A verb parses, calls one function and prints."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TypeVar

import click

from vecfill import __version__
from vecfill.cli.failures import report_failure
from vecfill.cli.mask import mask_process
from vecfill.cli.pipes import readers_may_leave
from vecfill.interruptible import is_work_left

VERBS = {
    "run": "Fill every missing vector of a table.",
    "status": "Count the rows with and without a vector.",
    "search": "Find the rows nearest to a text.",
    "demo": "Fill a table of 17,269 job listings on an embedded server.",
    "bench": "Measure vecfill against the alternatives.",
    "db": "Start, query or stop the embedded PostgreSQL server.",
}
"""Verbs and their short help. Kept here so that ``vecfill --help`` imports no verb."""


C = TypeVar("C", bound=click.Command)


def _lines_kept(command: C) -> C:
    r"""Puts click's mark, a backspace character, before the lines that must not be wrapped.

    The docstrings are raw, since examples contain backslashes; there the mark is the two characters ``\b``.
    """
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _lines_kept(inner)
    return command


class _Verbs(click.Group):
    """Imports a verb only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"vecfill.cli.{cmd_name}"), cmd_name)
        return _lines_kept(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@_lines_kept
@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="vecfill")
def vecfill() -> None:
    r"""Fill the embedding column of a PostgreSQL table with a local model, and account for every row.

    \b
    vecfill demo                          see it work, without a database of your own
    vecfill run --database postgresql://localhost/app --table public.jobs \
      --text '{title} at {company}' --model sentence-transformers/all-MiniLM-L6-v2
    """


def main() -> None:
    """Entry point: prints an error of vecfill or of the server in one line, and exits with its code."""
    mask_process()
    try:
        with readers_may_leave():
            _main()
    except SystemExit as end:
        if is_work_left() and isinstance(end.code, int):
            os._exit(end.code)
        raise


def _main() -> None:
    try:
        vecfill.main(prog_name="vecfill", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        if (reported := report_failure(error)) is None:
            raise
        sys.exit(reported[1])
    except KeyboardInterrupt:
        sys.exit(130)
