"""``vecfill migrate``: its verbs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vecfill.cli.logs import log_to_stderr
from vecfill.cli.migrate_report import print_ended, print_run, print_started, print_status
from vecfill.cli.migrate_swap import CHOICE, rollback, step_of, swap
from vecfill.cli.migrate_verify import verify
from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.progress import shown
from vecfill.cli.targets import for_each_target
from vecfill.config.connection import DatabaseOptions
from vecfill.config.migrate import IndexOptions, LockOptions, MigrateOptions
from vecfill.config.model import Model
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.run import RunOptions
from vecfill.config.settings import OPTIONS, QUEUE_SETTINGS, Settings
from vecfill.config.target import Target
from vecfill.migration.ending import MigrationEnded, abandon_migration, finish_migration
from vecfill.migration.fill import run_migration
from vecfill.migration.index_build import index_statements
from vecfill.migration.start import MigrationStarted, start_migration
from vecfill.migration.state import MigrationStatus, migration_status
from vecfill.remembered_failures import NOT_NEEDED

TO_FIND = options_of(DatabaseOptions, Target, without=(*NOT_NEEDED, *QUEUE_SETTINGS))
"""What names a target that the ledger knows."""


@click.group()
def migrate() -> None:
    r"""Move a tracked target to another model without an outage.

    The application goes on reading and writing. The new model's vectors go into a column beside the old one, with the
    same indexes. Both columns are tracked, so each can be kept fresh. The application reads the new column, with
    queries of the new model, from its own next release on; then the old column is dropped. Each command can be repeated
    after a crash and goes on. The role must own the table and the ledger. docs/migration.md has it phase by phase.

    \b
    vecfill migrate start   -d postgresql://localhost/app -t public.jobs -m BAAI/bge-base-en-v1.5
    vecfill migrate run     -d postgresql://localhost/app -t public.jobs -m BAAI/bge-base-en-v1.5
    vecfill migrate verify  -d postgresql://localhost/app -t public.jobs -m BAAI/bge-base-en-v1.5
    vecfill migrate status  -d postgresql://localhost/app -t public.jobs
    vecfill migrate finish  -d postgresql://localhost/app -t public.jobs
    vecfill migrate abandon -d postgresql://localhost/app -t public.jobs
    """


@migrate.command()
@settings_options(
    (*options_of(DatabaseOptions, Target, Model, MigrateOptions, LockOptions, without=QUEUE_SETTINGS), *CHOICE)
)
@output_options
def start(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Add the column for the new vectors and track it.

    Checks that the migration can work, and lists what else uses the old column. Adds the column without rewriting the
    table, in one short transaction with its triggers. --dim gives its dimension if the model does not.

    \b
    vecfill migrate start --config configs/cron.toml -m BAAI/bge-base-en-v1.5 --dry-run
    """
    for_each_target(flags, config, output, _to_start, print_started)


def _to_start(settings: Settings) -> Callable[[], MigrationStarted]:
    target, model, database = settings.need("table").of(Target), settings.of(Model), database_of(settings)
    options, step = settings.of(MigrateOptions), step_of(settings)
    return lambda: start_migration(target, model, database=database, options=options, step=step)


@migrate.command()
@settings_options(
    (
        *options_of(
            *(DatabaseOptions, Target, Model, RunOptions, IndexOptions, LockOptions), without=(*QUEUE_SETTINGS, "index")
        ),
        OPTIONS["dry_run"],
    )
)
@output_options
def run(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Fill the new column, and build the indexes that the old one has.

    Fills as `vecfill run` does, with all its options. Then builds a twin of each index on the old column, beside the
    table's use (CREATE INDEX CONCURRENTLY), and embeds what changed meanwhile. Run it again after any end.
    --dry-run prints the statements of the indexes that are not ready.

    \b
    vecfill migrate run --config configs/cron.toml -m BAAI/bge-base-en-v1.5 --index-memory 2GB

    Exit codes: those of `vecfill run`.
    """
    log_to_stderr(output)
    settings = Settings.load(flags, config)
    if settings.dry_run:
        for statement in index_statements(settings.need("table").of(Target), database=database_of(settings)):
            click.echo(f"{statement};")
        return
    options = settings.of(RunOptions)
    with shown(quiet=output.quiet, max_rate=options.write_limits.max_rate) as progress:
        done = run_migration(
            *(settings.need("table").of(Target), settings.of(Model)),
            database=database_of(settings),
            options=options,
            indexes=settings.of(IndexOptions),
            locks=settings.of(LockOptions),
            signals=True,
            progress=progress,
            consent=progress.asked,
        )
    if output.json:
        click.echo(json.dumps(done.as_dict()))
    elif not output.quiet:
        print_run(done)
    sys.exit(done.exit_code)


@migrate.command()
@settings_options(TO_FIND)
@output_options
def status(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Say where the migration stands, and what to do next.

    \b
    vecfill migrate status -d postgresql://localhost/app -t public.jobs
    """
    for_each_target(flags, config, output, _to_see, print_status)


def _to_see(settings: Settings) -> Callable[[], MigrationStatus]:
    target, database = settings.need("table").of(Target), database_of(settings)
    return lambda: migration_status(target, database=database)


@migrate.command()
@settings_options((*TO_FIND, *options_of(LockOptions), *CHOICE))
@output_options
def finish(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Drop the old column, its indexes and its tracking.

    The new column stays and is tracked. Views and other objects that use the old column must be changed first.

    \b
    vecfill migrate finish -d postgresql://localhost/app -t public.jobs
    """
    for_each_target(flags, config, output, lambda settings: _to_end(settings, finish_migration), print_ended)


@migrate.command()
@settings_options((*TO_FIND, *options_of(LockOptions), *CHOICE))
@output_options
def abandon(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Drop the new column, its indexes and its tracking.

    Leaves the table as it was before `vecfill migrate start`, at any time before `vecfill migrate finish`.

    \b
    vecfill migrate abandon -d postgresql://localhost/app -t public.jobs
    """
    for_each_target(flags, config, output, lambda settings: _to_end(settings, abandon_migration), print_ended)


def _to_end(settings: Settings, act: Callable[..., MigrationEnded]) -> Callable[[], MigrationEnded]:
    target, database = settings.need("table").of(Target), database_of(settings)
    return lambda: act(target, database=database, step=step_of(settings))


for command in (verify, swap, rollback):
    migrate.add_command(command)
