"""The command line: one file a verb. A verb parses, calls one function and prints."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TypeVar

import click

from vecfill import __version__
from vecfill.cli.failures import described
from vecfill.cli.mask import mask_process
from vecfill.cli.pipes import readers_may_leave

VERBS = {
    "run": "Fill every missing vector of a table.",
    "status": "Show how full an embedding column is.",
    "search": "Find the rows nearest to a text.",
    "demo": "Fill a job board of 17,269 real listings, on a server of its own.",
    "bench": "Measure vecfill beside other ways.",
    "db": "Start, find or stop the embedded server of the demo.",
}
"""Verbs and their short help, here so that ``vecfill --help`` imports none of them."""


C = TypeVar("C", bound=click.Command)


def _lines_kept(command: C) -> C:
    r"""Gives a raw docstring click's mark for lines to be kept, a backspace: examples hold backslashes of their own."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _lines_kept(inner)
    return command


class _Verbs(click.Group):
    """Imports a verb when it is called."""

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
    r"""Keeps the embedding column of a PostgreSQL table full and true, with a local model.

    \b
    vecfill demo                          see it work, with nothing of your own
    vecfill run --database postgresql://localhost/app --table public.jobs \
      --text '{title} at {company}' --model sentence-transformers/all-MiniLM-L6-v2
    """


def main() -> None:
    """Entry point: prints an error of ours or of the server's as one line and ends with its exit code."""
    mask_process()
    with readers_may_leave():
        _main()


def _main() -> None:
    try:
        vecfill.main(prog_name="vecfill", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        if (said := described(error)) is None:
            raise
        logging.getLogger(__name__).debug("", exc_info=error)
        click.echo(f"vecfill: {said[0]}", err=True)
        sys.exit(said[1])
    except KeyboardInterrupt:
        sys.exit(130)
