"""``vecfill run``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from vecfill.backfill.result import RunResult
from vecfill.backfill.row_report import Report
from vecfill.backfill.run import run as run_target
from vecfill.cli.logs import log_to_stderr
from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.progress import asked, shown
from vecfill.cli.report import print_line, print_result
from vecfill.cli.targets import as_dict, carry_out, worst
from vecfill.config.engine import EngineOptions
from vecfill.config.model import Model
from vecfill.config.output import Output
from vecfill.config.run import RunOptions
from vecfill.config.settings import OPTIONS, Settings
from vecfill.config.target import Target
from vecfill.engine.warm import Shared


@click.command()
@settings_options(OPTIONS.values())
@output_options
def run(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Fill every missing vector of a table.

    Rows whose embedding is NULL and whose text is not blank get the model's vector, written with a compare-and-set: a
    row whose text changed meanwhile is read again. Only UPDATEs are made, and only of the embedding column and of what
    --set assigns.

    \b
    vecfill run -d postgresql://localhost/app -t public.jobs --text '{title} at {company}\n{description}' \
      -m sentence-transformers/all-MiniLM-L6-v2 --set 'updated_at = now()'
    vecfill run --config configs/cron.toml --json

    Several [[target]]s of a file are filled one after the other, each by its own settings; --table picks one. They give
    a line each, with --json one object {"targets": [...], "exit_code": N}, and the worst exit code.

    Exit codes: 0 nothing that was eligible at the start remains, or --limit is reached; 1 failed; 2 usage or
    configuration; 3 complete but for rows that failed or were refused; 5 incomplete, with counts; 130, 143 stopped.
    """
    log_to_stderr(output)
    targets = Settings.load_all(flags, config)
    with closing(_Kept()) as kept:
        fills = [_prepared(settings, kept, output) for settings in targets]
        show = print_result if len(targets) == 1 else print_line
        ended = carry_out(targets, fills, (lambda _: None) if output.quiet or output.json else show)
    if output.json:
        click.echo(json.dumps(as_dict(targets, ended)))
    sys.exit(worst(one.exit_code for one in ended))


class _Kept:
    """What the runs of a command have together: model and cluster, and each file that they report to."""

    def __init__(self) -> None:
        self.shared = Shared()
        self._reports: dict[Path, Report] = {}

    def report(self, path: Path | None) -> Report | None:
        """The report at this path, opened once."""
        if path is None:
            return None
        if path not in self._reports:
            self._reports[path] = Report(path)
        return self._reports[path]

    def close(self) -> None:
        self.shared.close()
        for report in self._reports.values():
            report.close()


def _prepared(settings: Settings, kept: _Kept, output: Output) -> Callable[[], RunResult]:
    """The run of one target. Its settings are checked here: no run starts before those of all targets are."""
    target, model = settings.need("table", "text").of(Target), settings.of(Model)
    database, engine = database_of(settings), settings.of(EngineOptions, verbose=output.verbose)
    options, report = settings.of(RunOptions, engine=engine), kept.report(settings.report)

    def fill() -> RunResult:
        with shown(quiet=output.quiet) as progress:
            return run_target(
                target,
                model,
                database=database,
                options=options,
                progress=progress,
                consent=asked,
                shared=kept.shared,
                report=report,
            )

    return fill
