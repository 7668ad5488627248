"""``vecfill run``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from vecfill.backfill import run as fill
from vecfill.cli.options import CARRIED_OUT, DATABASE, MODEL, TARGET, log_to_stderr, output_options, settings_options
from vecfill.cli.progress import shown
from vecfill.cli.report import print_result
from vecfill.cli.specs import database_of, model_of, options_of, target_of
from vecfill.config import Settings


@click.command()
@settings_options(*DATABASE, *TARGET, *MODEL, *CARRIED_OUT)
@output_options
def run(config: Path | None, as_json: bool, quiet: bool, verbose: bool, **flags: Any) -> None:
    r"""Fill every missing vector of a table.

    Rows whose embedding is NULL and whose text is not blank get the model's vector, written with a compare-and-set: a
    row whose text changed meanwhile is read again. Only UPDATEs are made, and only of the embedding column and of what
    --set assigns.

    \b
    vecfill run -d postgresql://localhost/app -t public.jobs --text '{title} at {company}\n{description}' \
      -m sentence-transformers/all-MiniLM-L6-v2 --set 'updated_at = now()'
    vecfill run --config configs/cron.toml --json

    Exit codes: 0 nothing that was eligible at the start remains, or --limit is reached; 1 failed; 2 usage or
    configuration; 3 complete but for rows that failed or were refused; 5 incomplete, with counts; 130, 143 stopped.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    settings = Settings.load(flags, config)
    database = database_of(settings)
    with shown(quiet=quiet) as progress:
        result = fill(
            target_of(settings),
            model_of(settings),
            database=database,
            options=options_of(settings, verbose=verbose),
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(result.as_dict()))
    elif not quiet:
        print_result(result)
    sys.exit(result.exit_code)
