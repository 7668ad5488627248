"""``vecfill status``."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from vecfill.cli.options import DATABASE, TARGET, log_to_stderr, output_options, settings_options
from vecfill.cli.specs import database_of, target_of
from vecfill.cli.targets import as_dict, carry_out, worst
from vecfill.config import Settings
from vecfill.read.survey import Coverage

log = logging.getLogger(__name__)


@click.command()
@settings_options(*DATABASE, *TARGET)
@output_options
def status(config: Path | None, as_json: bool, quiet: bool, verbose: bool, **flags: Any) -> None:
    r"""Show how full an embedding column is.

    Counts rows with a vector, rows that miss one, and rows that have nothing to embed, as `vecfill run` would see them.
    Without --text, rows that have nothing to embed count as missing. The role needs no right but SELECT.

    Of a file with several [[target]]s all are counted; --table picks one.

    \b
    vecfill status -d postgresql://localhost/app -t public.jobs --text '{title} at {company}'
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    targets = Settings.load_all(flags, config)
    looks = [_prepared(settings) for settings in targets]
    ended = carry_out(targets, looks)
    if any(settings.text is None for settings in targets):
        log.info("without --text, rows that have nothing to embed count as missing")
    if as_json:
        click.echo(json.dumps(as_dict(targets, ended)))
    else:
        _print([one for one in ended if isinstance(one, Found)])
    sys.exit(worst(one.exit_code for one in ended))


@dataclass(frozen=True)
class Found:
    """The coverage of a target."""

    table: str
    coverage: Coverage
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"table": self.table, **asdict(self.coverage), "percent": round(self.coverage.percent, 2)}


def _prepared(settings: Settings) -> Callable[[], Found]:
    target, database = target_of(settings, text_needed=False), database_of(settings)

    def look() -> Found:
        from vecfill.postgres.session import Session
        from vecfill.status import coverage

        with closing(Session.connect(database)) as session:
            return Found(*session.run(lambda connection: coverage(connection, target)))

    return look


def _print(found: list[Found]) -> None:
    from rich.console import Console

    from vecfill.cli.report import coverage_table

    if len(found) == 1:
        table = coverage_table({"now": found[0].coverage}, found[0].table)
    else:
        table = coverage_table({one.table: one.coverage for one in found}, "now")
    Console(soft_wrap=True).print(table)
