"""``vecfill status``."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vecfill.cli.logs import log_to_stderr
from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.targets import as_dict, carry_out, worst
from vecfill.config.connection import DatabaseOptions
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import Settings
from vecfill.config.target import Target
from vecfill.table_status import Status
from vecfill.table_status import status as count

log = logging.getLogger(__name__)


@click.command()
@settings_options(options_of(DatabaseOptions, Target))
@output_options
def status(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Count the rows with and without a vector.

    Counts rows with a vector, rows without one, and rows with nothing to embed, exactly as `vecfill run` sees them.
    Without --text, rows with nothing to embed count as missing. The role needs only SELECT. If a run would not start,
    for want of a key or of a right, the reason follows.

    Counts every [[target]] of a file; --table picks one.

    \b
    vecfill status -d postgresql://localhost/app -t public.jobs --text '{title} at {company}'
    """
    log_to_stderr(output)
    targets = Settings.load_all(flags, config)
    looks = [_prepared(settings) for settings in targets]
    ended = carry_out(targets, looks)
    if any(settings.text is None for settings in targets):
        log.info("without --text, rows with nothing to embed count as missing")
    code = worst(one.exit_code for one in ended)
    if output.json:
        click.echo(json.dumps(as_dict(targets, ended, code)))
    else:
        _print([one for one in ended if isinstance(one, Status)])
    sys.exit(code)


def _prepared(settings: Settings) -> Callable[[], Status]:
    target, database = settings.of(Target), database_of(settings)

    return lambda: count(target, database=database)


def _print(found: list[Status]) -> None:
    from rich.console import Console

    from vecfill.cli.report import coverage_table

    if len(found) == 1:
        table = coverage_table({"now": found[0].coverage}, found[0].table)
    else:
        table = coverage_table({one.table: one.coverage for one in found}, "now")
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    for one in found:
        if one.run_needs:
            console.print(f"{one.table}: a run would not start: {one.run_needs}", markup=False)
