"""``vecfill failures``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.targets import for_each_target
from vecfill.config.connection import DatabaseOptions
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import QUEUE_SETTINGS, Settings
from vecfill.config.target import Target
from vecfill.remembered_failures import NOT_TAKEN, Failures
from vecfill.remembered_failures import failures as list_failures


@click.command()
@settings_options(options_of(DatabaseOptions, Target, without=(*NOT_TAKEN, *QUEUE_SETTINGS)))
@output_options
def failures(config: Path | None, output: Output, **flags: Any) -> None:
    r"""List the rows of a tracked target that failed.

    Shows each row's key, where and why it failed, how often, and when a run retries it. A run retries it earlier if its
    text or the model changes, or after `vecfill retry`. Rows that were filled since are not listed.

    \b
    vecfill failures -d postgresql://localhost/app -t public.jobs
    vecfill failures --config configs/cron.toml --json
    """
    for_each_target(flags, config, output, _prepared, _print)


def _prepared(settings: Settings) -> Callable[[], Failures]:
    target, database = settings.need("table").of(Target), database_of(settings)
    return lambda: list_failures(target, database=database)


def _print(found: Failures, _: Settings) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    click.echo(f"{found.table}: failed rows: {len(found.rows):,}")
    if not found.rows:
        return
    table = Table()
    for name in ("key", "stage", "class", "attempts", "last (UTC)", "next (UTC)", "message"):
        table.add_column(name, justify="right" if name == "attempts" else "left", overflow="fold")
    for row in found.rows:
        cells = (row.key, row.stage, row.error_class, f"{row.attempts}", _time(row.last_try), _time(row.next_try))
        table.add_row(*map(Text, (*cells, " ".join(row.message.split()))))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.print(table)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
