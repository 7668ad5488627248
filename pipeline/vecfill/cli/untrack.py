"""``vecfill untrack``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vecfill.cli.logs import log_to_stderr
from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.targets import as_dict, carry_out, worst
from vecfill.cli.track import print_script
from vecfill.config.connection import DatabaseOptions
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import Settings
from vecfill.config.target import Target
from vecfill.config.track import TrackOptions
from vecfill.target_tracking import TrackResult
from vecfill.target_untracking import untrack as untrack_target


@click.command()
@settings_options(options_of(DatabaseOptions, Target, TrackOptions, without=("triggers", "adopt")))
@output_options
def untrack(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Remove what track made.

    Drops the tables and triggers of the target; after the last target the schema too. The vectors stay as they are, and
    `vecfill run` then only fills rows without a vector.

    \b
    vecfill untrack -d postgresql://localhost/app -t public.jobs
    """
    log_to_stderr(output)
    targets = Settings.load_all(flags, config)
    ended = carry_out(targets, [_prepared(settings) for settings in targets])
    code = worst(one.exit_code for one in ended)
    if output.json:
        click.echo(json.dumps(as_dict(targets, ended, code)))
    else:
        for settings, one in zip(targets, ended, strict=False):
            if isinstance(one, TrackResult):
                if settings.dry_run:
                    print_script(one)
                else:
                    click.echo(f"{one.table} is no longer tracked")
    sys.exit(code)


def _prepared(settings: Settings) -> Callable[[], TrackResult]:
    target, database = settings.need("table").of(Target), database_of(settings)
    return lambda: untrack_target(target, database=database, dry_run=settings.dry_run)
