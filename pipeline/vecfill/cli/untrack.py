"""``vecfill untrack``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.targets import for_each_target
from vecfill.cli.track import print_script
from vecfill.config.connection import DatabaseOptions
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import QUEUE_SETTINGS, Settings
from vecfill.config.target import Target
from vecfill.config.track import TrackOptions
from vecfill.target_tracking import TrackResult
from vecfill.target_untracking import untrack as untrack_target


@click.command()
@settings_options(options_of(DatabaseOptions, Target, TrackOptions, without=("triggers", "adopt", *QUEUE_SETTINGS)))
@output_options
def untrack(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Stop tracking a target.

    Drops the target's tables and triggers, and after the last target the schema. The vectors stay, and `vecfill run`
    then only fills rows without a vector.

    \b
    vecfill untrack -d postgresql://localhost/app -t public.jobs
    """
    for_each_target(flags, config, output, _prepared, _print)


def _prepared(settings: Settings) -> Callable[[], TrackResult]:
    target, database = settings.need("table").of(Target), database_of(settings)
    return lambda: untrack_target(target, database=database, dry_run=settings.dry_run)


def _print(done: TrackResult, settings: Settings) -> None:
    if settings.dry_run:
        print_script(done)
    else:
        click.echo(f"{done.table} is no longer tracked")
