"""``vecfill track``."""

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
from vecfill.config.track import TrackOptions
from vecfill.target_tracking import TrackResult
from vecfill.target_tracking import track as track_target
from vecfill.wording import count_of


@click.command()
@settings_options(options_of(DatabaseOptions, Target, Model, TrackOptions, without=QUEUE_SETTINGS))
@output_options
def track(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Remember where each vector comes from, and capture changes.

    Creates a few tables in the schema given by --state-schema, and triggers on the target that queue the keys of
    changed rows. After that `vecfill run` also refreshes what changed. Run `vecfill track` again when --text or --where
    changes. `vecfill untrack` removes all of it.

    --adopt records existing vectors as made by --model, if a sample of them agrees with it. Without --adopt their
    origin stays unknown, and only `vecfill run --select all` replaces them. Only --adopt uses --model and its settings.

    The role must own the table or have TRIGGER on it, and have CREATE on the database. --dry-run prints the statements
    for a DBA, and the grants that a role needs for `vecfill run`. A role that edits the table needs no grant.

    \b
    vecfill track -d postgresql://localhost/app -t public.jobs --text '{title} at {company}'
    vecfill track --config configs/cron.toml --dry-run
    vecfill track --config configs/cron.toml --adopt
    """
    for_each_target(flags, config, output, _prepared, _print)


def _prepared(settings: Settings) -> Callable[[], TrackResult]:
    target, database = settings.need("table").of(Target), database_of(settings)
    options = settings.of(TrackOptions)
    adopt = settings.of(Model) if options.adopt else None
    return lambda: track_target(
        target, database=database, triggers=options.triggers, dry_run=options.dry_run, adopt=adopt
    )


def _print(done: TrackResult, settings: Settings) -> None:
    if settings.dry_run:
        print_script(done)
    else:
        what = (
            "is now tracked"
            if done.created
            else "is tracked with new settings"
            if done.changed
            else "was already tracked"
        )
        click.echo(f"{done.table} {what}: `vecfill run` fills what is missing and refreshes what changes")
    if done.adopted:
        click.echo(
            f"{count_of(done.adopted.rows, 'vector')} of unknown origin adopted: of "
            f"{count_of(done.adopted.compared, 'sampled vector')}, {done.adopted.agreeing:,} agree with the model"
        )
    for where in done.beside:
        click.echo(
            f"-- the column is also tracked with --where {where or '(none)'!r}: both targets write the rows that "
            "they share, and a row that leaves one for the other keeps its vector: give them the same text and model; "
            "if this one replaces that one, run `vecfill untrack` for that one",
            err=not settings.dry_run,
        )
    if done.elsewhere:
        click.echo(
            f"-- the text also reads {', '.join(done.elsewhere)}: no trigger sees changes there; `vecfill run --audit` "
            "finds them",
            err=not settings.dry_run,
        )


def print_script(done: TrackResult) -> None:
    """Prints the statements as a script for psql."""
    click.echo("BEGIN;")
    for statement in done.ddl:
        click.echo(f"{statement};")
    click.echo("COMMIT;")
    for grant in done.grants:
        click.echo(f"-- for each role that runs vecfill: {grant};")
