"""``vecfill retry``."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vecfill.cli.failures import NOT_NEEDED
from vecfill.cli.logs import log_to_stderr
from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.targets import as_dict, carry_out, worst
from vecfill.config.connection import DatabaseOptions
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.retry import RetryOptions
from vecfill.config.settings import Settings
from vecfill.config.target import Target
from vecfill.remembered_failures import Retried
from vecfill.remembered_failures import retry as retry_rows

log = logging.getLogger(__name__)


@click.command()
@settings_options(options_of(DatabaseOptions, Target, RetryOptions, without=NOT_NEEDED))
@output_options
def retry(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Let the next run try failed rows again.

    A run leaves a row that failed alone for 15 minutes, and for twice as long after each further failure, up to a day.
    This makes rows due now; `vecfill run` then takes them. `vecfill failures` lists them.

    \b
    vecfill retry -d postgresql://localhost/app -t public.jobs --all
    vecfill retry -d postgresql://localhost/app -t public.jobs --key 17 --key 23
    """
    log_to_stderr(output)
    targets = Settings.load_all(flags, config)
    ended = carry_out(targets, [_prepared(settings) for settings in targets])
    code = worst(one.exit_code for one in ended)
    for one in ended:
        if isinstance(one, Retried) and one.not_found:
            log.warning("%s: no failure is remembered for key %s", one.table, ", ".join(one.not_found))
    if output.json:
        click.echo(json.dumps(as_dict(targets, ended, code)))
    else:
        for one in ended:
            if isinstance(one, Retried):
                click.echo(f"{one.table}: failed rows due now: {one.rows:,}; `vecfill run` takes them")
    sys.exit(code)


def _prepared(settings: Settings) -> Callable[[], Retried]:
    target, database = settings.need("table").of(Target), database_of(settings)
    which = settings.of(RetryOptions)
    return lambda: retry_rows(target, which, database=database)
