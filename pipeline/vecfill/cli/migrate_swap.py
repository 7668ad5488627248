"""``vecfill migrate swap`` and ``rollback``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vecfill.cli.migrate_report import print_swapped
from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.shown_run import Shown
from vecfill.cli.targets import for_each_target
from vecfill.config.connection import DatabaseOptions
from vecfill.config.migrate import LockOptions, SwapOptions
from vecfill.config.model import Model
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import OPTIONS, QUEUE_SETTINGS, Settings
from vecfill.config.target import Target
from vecfill.migration.exchange import MigrationSwapped
from vecfill.migration.rollback import roll_back_migration
from vecfill.migration.step_options import StepOptions
from vecfill.migration.swap import swap_migration

CHOICE = OPTIONS["yes"], OPTIONS["dry_run"]


@click.command()
@settings_options(
    (
        *options_of(
            *(DatabaseOptions, Target, Model, SwapOptions, LockOptions), without=("refresh", "dim", *QUEUE_SETTINGS)
        ),
        *CHOICE,
    )
)
@output_options
def swap(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Exchange the names of the two columns, for an application whose queries cannot name another one.

    For applications that can, move them to the new column instead. Embeds what is queued, then exchanges the names of
    the columns and of their indexes in one transaction: all or nothing. From then on the application's column carries
    the new vectors, and its queries must come from the new model: vecfill.active_model() tells a session which one.

    Statements that a session has prepared and that return the column itself fail with SQLSTATE 0A000 until they are
    prepared again, if the dimension differs. `vecfill migrate rollback` goes back.

    \b
    vecfill migrate swap --config configs/cron.toml -m BAAI/bge-base-en-v1.5 --after /run/new-release
    """
    for_each_target(flags, config, output, _to_swap, print_swapped)


def _to_swap(settings: Settings) -> Callable[[], MigrationSwapped]:
    target, model, database = settings.need("table").of(Target), settings.of(Model), database_of(settings)
    options, step = settings.of(SwapOptions), step_of(settings)
    return lambda: swap_migration(target, model, database=database, options=options, step=step)


@click.command()
@settings_options(
    (
        *options_of(*(DatabaseOptions, Target, Model, SwapOptions, LockOptions), without=("dim", *QUEUE_SETTINGS)),
        OPTIONS["dry_run"],
    )
)
@output_options
def rollback(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Exchange the names back after a swap.

    Possible until `vecfill migrate finish`. Lists the rows whose text changed since the swap and whose old vector does
    not follow; --refresh embeds them with --model, the old model, before the exchange.

    \b
    vecfill migrate rollback -d postgresql://localhost/app -t public.jobs
    vecfill migrate rollback -d postgresql://localhost/app -t public.jobs --refresh \
      -m sentence-transformers/all-MiniLM-L6-v2
    """
    for_each_target(flags, config, output, _to_roll_back, print_swapped)


def _to_roll_back(settings: Settings) -> Callable[[], MigrationSwapped]:
    target, database, options = settings.need("table").of(Target), database_of(settings), settings.of(SwapOptions)
    model = settings.of(Model) if options.refresh else None
    return lambda: roll_back_migration(target, model, database=database, options=options, step=step_of(settings))


def step_of(settings: Settings) -> StepOptions:
    """How a step is taken, as the settings say; a terminal is asked."""
    locks = settings.of(LockOptions)
    return StepOptions(locks=locks, dry_run=bool(settings.dry_run), yes=bool(settings.yes), consent=_asked)


def _asked(excess: str) -> bool:
    """Asks on the terminal; without one the answer is no."""
    return Shown("migration", None).asked(excess)
