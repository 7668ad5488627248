"""Prints what the verbs of ``vecfill migrate`` did, for people."""

from __future__ import annotations

from collections.abc import Iterable

import click

from vecfill.cli.report import print_line
from vecfill.config.settings import Settings
from vecfill.migration.ending import MigrationEnded
from vecfill.migration.exchange import MigrationSwapped
from vecfill.migration.fill import MigrationRun
from vecfill.migration.obstacles import Obstacle
from vecfill.migration.start import MigrationStarted
from vecfill.migration.state import IndexState, MigrationStatus
from vecfill.wording import count_of, verb_of

SHOWN_KEYS = 20

WAYS = (
    "(a) the application moves: a release reads {} with queries of the new model, and `migrate finish` follows; (b) "
    "`migrate swap`: {} itself gets the new vectors, and from that moment its queries must come from the new model: "
    "those of the old one are errors where the dimension differs, and silently wrong where it does not"
)


def print_started(done: MigrationStarted, settings: Settings) -> None:
    """Prints what ``start`` did, or the statements of ``--dry-run``."""
    if settings.dry_run and done.created:
        print_statements(done.ddl)
        click.echo("-- afterwards `vecfill migrate run` fills the column and builds its indexes:")
        for statement in done.later:
            click.echo(f"-- {statement};")
        for line in done.forecast.lines(done.table) if done.forecast else ():
            click.echo(f"-- {line}")
        _print_left(done, prefix="-- ")
        return
    what = "is added" if done.created else "was added before"
    click.echo(f"{done.table}: column {done.new_column} {done.type} {what} beside {done.column}, and is tracked")
    _print_left(done)
    click.echo("next: `vecfill migrate run` with the same model; the application goes on with the old column")
    click.echo(f"then one of two ways to cut over: {WAYS.format(done.new_column, done.column)}")


def _print_left(done: MigrationStarted, prefix: str = "") -> None:
    for sentence in done.not_copied:
        click.echo(f"{prefix}{sentence}")
    _print_obstacles(done.obstacles, done.column, prefix)
    for function in done.functions:
        click.echo(
            f"{prefix}function {function} may name {done.column} in its body: it follows the name, to the new vectors "
            "after a swap; change it if the application moves"
        )


def _print_obstacles(found: Iterable[Obstacle], column: str, prefix: str = "") -> None:
    for one in found:
        click.echo(f"{prefix}{one.kind} {one.name} uses {column}: change it before `vecfill migrate finish`")


def print_statements(ddl: Iterable[str]) -> None:
    """Prints statements as a script for psql."""
    click.echo("BEGIN;")
    for statement in ddl:
        click.echo(f"{statement};")
    click.echo("COMMIT;")


def print_run(done: MigrationRun) -> None:
    """Prints what ``run`` did."""
    print_line(done.filled)
    for index in done.indexes:
        how = "built" + (" without parallel workers" if index.serial else "") if index.built else "was built before"
        click.echo(f"index {index.name} on {index.table}: {how}, as {index.old}")
    if done.drained:
        print_line(done.drained)
    click.echo(f"phase: {done.phase}; `vecfill migrate status` says what comes next")


def print_status(found: MigrationStatus, _: Settings) -> None:
    """Prints where a migration stands."""
    click.echo(f"{found.table}: {found.old_column} to {found.new_column}, {found.model}")
    for phase, at in found.phases:
        click.echo(f"  {at:%Y-%m-%d %H:%M:%S} UTC  {phase}")
    if found.coverage:
        counts = found.coverage.coverage
        queued = found.coverage.ledger.queued if found.coverage.ledger else 0
        rows = count_of(counts.total, "row")
        click.echo(
            f"{found.new_column}: {counts.filled:,} of {rows} {verb_of(counts.filled, 'has')} a vector "
            f"({counts.percent:.2f}%), {counts.changed:,} changed since, {counts.failed:,} failed, "
            f"{count_of(queued, 'queued change')}"
        )
    for index in found.indexes:
        click.echo(f"index {index.name} on {index.table}: {_state(index)}, as {index.old}")
    _print_obstacles(found.obstacles, found.old_column)
    click.echo(f"next: {found.next}")


def _state(index: IndexState) -> str:
    return index.state if index.percent is None else f"{index.state}, {index.percent:.0f}%"


def print_swapped(done: MigrationSwapped, settings: Settings) -> None:
    """Prints what ``swap`` or ``rollback`` did, or the statements of ``--dry-run``."""
    if settings.dry_run:
        print_statements(done.ddl)
        return
    when = "" if done.done else " before"
    whose = "new" if done.phase == "swapped" else "old"
    click.echo(f"{done.table}: {done.phase}{when}: {done.column} carries the {whose} vectors, {done.other} the others")
    if done.behind:
        shown = ", ".join(done.behind[:SHOWN_KEYS]) + (", …" if len(done.behind) > SHOWN_KEYS else "")
        click.echo(
            f"{count_of(len(done.behind), 'row')} changed since the swap, and the old vector is of an earlier text, "
            f"until `vecfill run` with the old model: keys {shown}"
        )


def print_ended(done: MigrationEnded, settings: Settings) -> None:
    """Prints what ``finish`` or ``abandon`` did, or the statements of ``--dry-run``."""
    if settings.dry_run:
        print_statements(done.ddl)
        return
    when = "" if done.done else " before"
    click.echo(f"{done.table}: {done.phase}{when}: column {done.dropped} is gone, and {done.kept} is tracked")
