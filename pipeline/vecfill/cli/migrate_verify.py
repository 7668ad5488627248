"""``vecfill migrate verify``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from vecfill.bench.render import check_folder, check_installed, render, write_files
from vecfill.cli.measuring import report_option
from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.targets import for_each_target
from vecfill.config.connection import DatabaseOptions
from vecfill.config.model import Model
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import QUEUE_SETTINGS, Settings
from vecfill.config.target import Target
from vecfill.config.verify import VerifyOptions
from vecfill.migration.verify import MigrationVerified, verify_migration
from vecfill.wording import count_of


@click.command()
@settings_options(
    options_of(DatabaseOptions, Target, Model, VerifyOptions, without=("verify_fix", "dim", *QUEUE_SETTINGS))
)
@report_option("Write migration.md, migration.html and migration.json to this folder.")
@output_options
def verify(config: Path | None, output: Output, report: Path | None, **flags: Any) -> None:
    r"""Check the new column before the application moves.

    Every row has a vector and nothing is queued; a sample is embedded again and compared; rows find themselves through
    the new index. Also shows how many of the nearest neighbours are the same by the old and the new vectors. Only
    reads. --report needs the extra `bench`.

    \b
    vecfill migrate verify --config configs/cron.toml -m BAAI/bge-base-en-v1.5 --report out

    Exit codes: 0 all is right; 1 something is not, or verify failed; 2 usage or configuration error.
    """
    if report:
        check_installed("jinja2")
        check_folder(report)

    def show(found: MigrationVerified, _: Settings) -> None:
        _print(found)

    def prepared(settings: Settings) -> Callable[[], MigrationVerified]:
        return _prepared(settings, report)

    for_each_target(flags, config, output, prepared, show)


def _prepared(settings: Settings, report: Path | None) -> Callable[[], MigrationVerified]:
    target, model = settings.need("table").of(Target), settings.of(Model)
    database, options = database_of(settings), settings.of(VerifyOptions)

    def work() -> MigrationVerified:
        found = verify_migration(target, model, database=database, options=options)
        if report:
            write_files(report, _files(found))
        return found

    return work


def _files(found: MigrationVerified) -> dict[str, str]:
    lines = list(_lines(found))
    return {
        "migration.json": json.dumps(found.as_dict(), indent=2),
        "migration.md": render("migration.md.j2", found=found, lines=lines),
        "migration.html": render("migration.html.j2", found=found, lines=lines),
    }


def _lines(found: MigrationVerified) -> Iterator[tuple[str, str]]:
    """What was found, by name."""
    counts, verified = found.coverage.coverage, found.verified
    yield "phase", found.phase
    yield "rows with a vector", f"{counts.filled:,} of {counts.total:,} ({counts.percent:.2f}%)"
    yield "rows without", f"{counts.missing:,} missing, {counts.empty:,} empty, {counts.failed:,} failed"
    yield "queued changes", f"{found.coverage.ledger.queued if found.coverage.ledger else 0:,}"
    states = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in verified.counts.items())
    yield "sampled vectors, embedded again", f"{verified.compared:,}: {states}" if states else "none"
    for recall in found.searches.found:
        yield f"rows found by their own vectors through {recall.index}", f"{recall.found:,} of {recall.rows:,}"
    for sentence in found.searches.not_searched:
        index, _, reason = sentence.partition(" was not searched: ")
        yield f"{index}, not searched", reason
    if overlap := found.overlap:
        yield (
            f"nearest {overlap.among} by old and new vectors",
            f"{overlap.mean:.0%} the same on average, {overlap.least:.0%} at least, over "
            f"{count_of(overlap.rows, 'row')}",
        )


def _print(found: MigrationVerified) -> None:
    click.echo(f"{found.table}: {found.old_column} to {found.new_column}, {found.model}")
    for name, value in _lines(found):
        click.echo(f"  {name}: {value}")
    for problem in found.problems:
        click.echo(f"not ready: {problem}")
    if not found.problems:
        click.echo("ready: the application can move, or `vecfill migrate swap`")
