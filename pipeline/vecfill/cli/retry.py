"""``vecfill retry``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.targets import for_each_target
from vecfill.config.connection import DatabaseOptions
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.retry import RetryOptions
from vecfill.config.settings import Settings
from vecfill.config.target import Target
from vecfill.remembered_failures import NOT_TAKEN, Retried
from vecfill.remembered_failures import retry as retry_rows

log = logging.getLogger(__name__)


@click.command()
@settings_options(options_of(DatabaseOptions, Target, RetryOptions, without=NOT_TAKEN))
@output_options
def retry(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Have the next run retry failed rows.

    After a failure, runs skip the row for 15 minutes, and after each further failure for twice as long, up to a day.
    This makes rows due now, so that the next `vecfill run` retries them. `vecfill failures` lists them.

    On a target with a queue table, puts its failed entries back to pending, or with --lost the last entry of each row
    that has no vector although its entries are all done.

    \b
    vecfill retry -d postgresql://localhost/app -t public.jobs --all
    vecfill retry -d postgresql://localhost/app -t public.jobs --key 17 --key 23
    vecfill retry --config configs/queue-table.toml --lost
    """
    for_each_target(flags, config, output, _prepared, _print)


def _prepared(settings: Settings) -> Callable[[], Retried]:
    target, database = settings.need("table").of(Target), database_of(settings)
    which = settings.of(RetryOptions)

    def due() -> Retried:
        done = retry_rows(target, which, database=database)
        if done.not_found:
            log.warning("%s: no failure is remembered for key %s", done.table, ", ".join(done.not_found))
        return done

    return due


def _print(done: Retried, _: Settings) -> None:
    click.echo(f"{done.table}: rows due now: {done.rows:,}; the next `vecfill run` retries them")
