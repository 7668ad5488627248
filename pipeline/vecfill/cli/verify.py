"""``vecfill verify``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.targets import for_each_target
from vecfill.config.connection import DatabaseOptions
from vecfill.config.model import Model
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import QUEUE_SETTINGS, Settings
from vecfill.config.target import Target
from vecfill.config.verify import VerifyOptions
from vecfill.verification.verify import VerifyResult
from vecfill.verification.verify import verify as verify_target
from vecfill.wording import count_of

SHOWN_ROWS = 20


@click.command()
@settings_options(options_of(DatabaseOptions, Target, Model, VerifyOptions, without=QUEUE_SETTINGS))
@output_options
def verify(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Embed a sample of the texts again and compare the vectors.

    Shows how many vectors are right, and the keys of those that are off: their text changed, another model made them,
    they were overwritten, they are zeros, or their length is wrong. On an untracked target the first three are one
    state: the vector differs. A vector agrees if its cosine is 0.98 or more. If the column has a vector index, verify
    also searches it for rows by their own vectors.

    --where selects the rows to compare; on a tracked target, among the tracked rows. Only reads, except with --fix,
    which marks the rows that are off and then works as `vecfill run`.

    \b
    vecfill verify -d postgresql://localhost/app -t public.jobs --text '{title} at {company}' \
      -m sentence-transformers/all-MiniLM-L6-v2
    vecfill verify --config configs/cron.toml --where "id = 17"
    vecfill verify --config configs/cron.toml --all --fix

    Exit codes: 0 no vector is off, or all were fixed; 1 vectors are off, or verify failed; 2 usage or configuration
    error; 4 another run works on the target to fix.
    """
    for_each_target(flags, config, output, _prepared, _print)


def _prepared(settings: Settings) -> Callable[[], VerifyResult]:
    target, model = settings.need("table").of(Target), settings.of(Model)
    database, options = database_of(settings), settings.of(VerifyOptions)
    return lambda: verify_target(target, model, database=database, options=options)


def _print(found: VerifyResult, _: Settings) -> None:
    counts = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in found.counts.items())
    click.echo(f"{found.table}, {found.model}: {found.compared:,} compared{': ' if counts else ''}{counts}")
    for row in found.rows[:SHOWN_ROWS]:
        why = row.error if row.cosine is None else f"cosine {row.cosine:.4f}, length {row.norm:.4g}"
        click.echo(f"  {row.state.replace('_', ' ')}: key {row.key}: {why}")
    if len(found.rows) > SHOWN_ROWS:
        click.echo(f"  … and {len(found.rows) - SHOWN_ROWS:,} more: --json lists them")
    if found.recall:
        recall = found.recall
        click.echo(
            f"index {recall.index}: {recall.found:,} of {count_of(recall.rows, 'row')} found by their own vectors"
        )
    if found.fixed:
        click.echo(f"fixed: {count_of(found.fixed.updated, 'row')} embedded again ({found.fixed.outcome})")
