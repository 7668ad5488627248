"""``vecfill status``."""

from __future__ import annotations

import json
import logging
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from vecfill.cli.options import DATABASE, TARGET, log_to_stderr, output_options, settings_options
from vecfill.cli.specs import database_of, target_of
from vecfill.config import Settings

log = logging.getLogger(__name__)


@click.command()
@settings_options(*DATABASE, *TARGET)
@output_options
def status(config: Path | None, as_json: bool, quiet: bool, verbose: bool, **flags: Any) -> None:
    r"""Show how full an embedding column is.

    Counts rows with a vector, rows that miss one, and rows that have nothing to embed, as `vecfill run` would see them.
    Without --text, rows that have nothing to embed count as missing. The role needs no right but SELECT.

    \b
    vecfill status -d postgresql://localhost/app -t public.jobs --text '{title} at {company}'
    """
    from vecfill.status import coverage

    log_to_stderr(quiet=quiet, verbose=verbose)
    settings = Settings.load(flags, config)
    with closing(database_of(settings).reachable().connect()) as connection:
        label, found = coverage(connection, target_of(settings, text_needed=False))
    if settings.text is None:
        log.info("without --text, rows that have nothing to embed count as missing")
    if as_json:
        click.echo(json.dumps({"table": label, **asdict(found), "percent": round(found.percent, 2)}))
    else:
        from rich.console import Console

        from vecfill.cli.report import coverage_table

        Console(soft_wrap=True).print(coverage_table({"now": found}, label))
