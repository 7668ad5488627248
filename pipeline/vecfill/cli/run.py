"""``vecfill run``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click

from vecfill.backfill.result import RunResult
from vecfill.backfill.row_report import Report
from vecfill.backfill.run import run as run_target
from vecfill.cli.logs import log_to_stderr
from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.progress import shown
from vecfill.cli.report import print_line, print_result
from vecfill.cli.targets import Ended, as_dict, carry_out, failed, worst
from vecfill.config.connection import DatabaseOptions
from vecfill.config.engine import EngineOptions
from vecfill.config.hooks import HookOptions
from vecfill.config.migrate import IndexOptions, LockOptions
from vecfill.config.model import Model
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.run import ReportFile, RunOptions
from vecfill.config.settings import Settings
from vecfill.config.target import Target
from vecfill.engine.warm import Warm
from vecfill.errors import VecfillError
from vecfill.hooks import run_hooks


@click.command()
@settings_options(
    options_of(DatabaseOptions, Target, Model, RunOptions, IndexOptions, LockOptions, ReportFile, HookOptions)
)
@output_options
def run(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Fill every missing vector of a table.

    Fills rows whose embedding is NULL and whose text is not blank. Writes a vector only if the row still needs one and
    has the same text; a row whose text changed is read again. Sends only UPDATEs, and assigns only to the embedding
    column and the columns in --set.

    On a tracked target (see `vecfill track`) it also refreshes the rows whose text changed, at the cost of what
    changed, and clears the vectors of rows whose text is gone.

    A vector index slows each write down by 60 to 170 times. --index rebuild drops the vector indexes of a tracked
    target before the run and builds them again after it, also after a crash: their definitions are in the ledger, and
    the next run builds what is missing. Searches read every vector meanwhile. --index auto measures both ways and
    chooses.

    \b
    vecfill run -d postgresql://localhost/app -t public.jobs --text '{title} at {company}\n{description}' \
      -m sentence-transformers/all-MiniLM-L6-v2 --set 'updated_at = now()'
    vecfill run --config configs/cron.toml --json

    A file may hold several [[target]]s. They run one after the other, each with its own settings; --table picks one.
    The output is one line per target, or with --json one object {"targets": [...], "exit_code": N}. The exit code is
    the worst of all targets; 2 becomes 1 if another target was written.

    Exit codes: 0 every row is filled, or --limit is reached; 1 failed; 2 usage or configuration error, nothing written;
    3 complete except for rows that failed or were refused; 4 another run works on this tracked target; 5 incomplete
    (see the counts); 129, 130, 143 stopped by a signal.

    --on-end and --on-fail run a command after each target, also if it failed or did not start. It gets the target's
    JSON object on stdin, and VECFILL_RUN_EXIT_CODE, _OUTCOME, _TABLE, _ERROR and VECFILL_RUN_ID in its environment; its
    output goes to stderr. If it fails or takes longer than --hook-timeout, the log says so, and the exit code stays.
    """
    log_to_stderr(output)
    targets = Settings.load_all(flags, config)
    with closing(_Kept()) as kept:
        several = len(targets) > 1
        with _hooks_told(targets):
            fills = [_prepared(settings, kept, output, several=several) for settings in targets]
            kept.open_reports(settings.report for settings in targets)
        show = print_line if several else print_result
        ended = carry_out(targets, fills, (lambda _: None) if output.quiet or output.json else show, _hooks)
    wrote = any(isinstance(one, RunResult) and one.updated for one in ended)
    code = worst((one.exit_code for one in ended), wrote=wrote)
    if output.json:
        click.echo(json.dumps(as_dict(targets, ended, code)))
    sys.exit(code)


@contextmanager
def _hooks_told(targets: Sequence[Settings]) -> Iterator[None]:
    """Tells the hooks of an error that prevents every run."""
    try:
        yield
    except VecfillError as error:
        for settings in targets:
            if _hooks(settings, failed(settings, error)):
                break
        raise


def _hooks(settings: Settings, ended: Ended) -> BaseException | None:
    """Runs the commands of a target that has ended; returns the signal that interrupted them, if one did."""
    try:
        run_hooks(settings.of(HookOptions), ended.as_dict())
    except KeyboardInterrupt as stop:
        return stop
    return None


class _Kept:
    """The model, cluster and report files that all runs of a command share."""

    def __init__(self) -> None:
        self.warm = Warm()
        self._reports: dict[Path, Report] = {}

    def open_reports(self, paths: Iterable[Path | None]) -> None:
        """Opens, and so overwrites, each file once; called when the settings of all targets have been checked."""
        self._reports = {path: Report(path) for path in dict.fromkeys(paths) if path}

    def report(self, path: Path | None) -> Report | None:
        """Returns the open report at this path."""
        return self._reports[path] if path else None

    def close(self) -> None:
        self.warm.close()
        for report in self._reports.values():
            report.close()


def _target(settings: Settings) -> Target:
    return settings.need("table", *(("text",) if settings.text_sql is None else ())).of(Target)


def _prepared(settings: Settings, kept: _Kept, output: Output, *, several: bool) -> Callable[[], RunResult]:
    """Prepares the run of one target. Checks its settings, so that no run starts before all targets are checked."""
    target, model = _target(settings), settings.of(Model)
    database, engine = database_of(settings), settings.of(EngineOptions, verbose=output.verbose)
    options = settings.of(RunOptions, engine=engine)

    def fill() -> RunResult:
        title = str(settings.table) if several else "embedding"
        with shown(quiet=output.quiet, title=title, max_rate=options.write_limits.max_rate) as progress:
            return run_target(
                target,
                model,
                database=database,
                options=options,
                progress=progress,
                consent=progress.asked,
                signals=True,
                warm=kept.warm,
                report=kept.report(settings.report),
                indexes=settings.of(IndexOptions),
                locks=settings.of(LockOptions),
            )

    return fill
