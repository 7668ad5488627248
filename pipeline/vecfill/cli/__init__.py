"""The command line: one file per verb. A verb parses, calls one function and prints."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TypeVar

import click

from vecfill import __version__
from vecfill.cli.error_lines import defect, print_json_error, report_failure
from vecfill.cli.mask import mask_process
from vecfill.cli.pipes import output_never_fails
from vecfill.interruptible import is_work_left
from vecfill.termination import keep_code, raise_on_sigterm, stop_code

VERBS = {
    "run": "Fill every missing vector of a table.",
    "watch": "Keep the vectors of tables up to date until stopped.",
    "plan": "Show what a run would do: rows, texts, tokens, time and cost.",
    "status": "Count the rows with and without a vector.",
    "track": "Remember where each vector comes from, and capture changes.",
    "untrack": "Stop tracking a target.",
    "failures": "List the rows of a tracked target that failed.",
    "retry": "Have the next run retry failed rows.",
    "verify": "Embed a sample of the texts again and compare the vectors.",
    "doctor": "Examine a target: what is wrong, and what mends it.",
    "search": "Find the rows nearest to a text.",
    "migrate": "Move a tracked target to another model without an outage.",
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
    """Entry point: prints an error of vecfill or of the server in one line, and exits with its code.

    With ``--json`` an error that ends the command is also the one JSON object on stdout.
    """
    mask_process()
    raise_on_sigterm()
    try:
        with output_never_fails():
            _main()
    except SystemExit as end:
        if is_work_left() and isinstance(end.code, int):
            os._exit(end.code)
        raise


def _main() -> None:
    wishes = {"json": "--json" in sys.argv}  # what the file and the environment say, a verb adds
    try:
        vecfill.main(prog_name="vecfill", standalone_mode=False, obj=wishes)
    except SystemExit as end:
        keep_code(end.code if isinstance(end.code, int) else 0)
        raise
    except BaseException as error:
        ended = _shown(error)
        message, exit_code = ended or defect(error)
        keep_code(exit_code)
        if wishes["json"]:
            print_json_error(message, exit_code)
        if ended is None:
            raise
        sys.exit(exit_code)


def _shown(error: BaseException) -> tuple[str, int] | None:
    """Prints the error on stderr, and returns it with its exit code; None for a defect, whose traceback says more."""
    if isinstance(error, click.exceptions.Abort | KeyboardInterrupt):
        return "stopped", stop_code(error.__cause__ or error)  # click raises Abort from the interrupt
    if isinstance(error, click.ClickException):
        error.show()
        return error.format_message(), error.exit_code
    return report_failure(error)
