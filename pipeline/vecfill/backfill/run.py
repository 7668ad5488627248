"""The main job: prepare, start an engine, drain, and account for every row."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from vecfill.backfill.drain import Drain, commits_told
from vecfill.backfill.prepare import prepare
from vecfill.backfill.progress import Progress
from vecfill.backfill.result import RunResult, result_of
from vecfill.backfill.row_report import Report
from vecfill.backfill.run_state import RunState
from vecfill.backfill.tracked_checks import ledger_expected
from vecfill.config.model import Model
from vecfill.config.options import chosen
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.engine.choice import opened
from vecfill.engine.signals import exit_code, stopping
from vecfill.engine.warm import Warm
from vecfill.errors import StoppedError
from vecfill.job import Stop
from vecfill.ledger.lease import Lease
from vecfill.ledger.run_log import RunLog
from vecfill.postgres.database import Database
from vecfill.postgres.driver_errors import server_message, wrap_driver_errors
from vecfill.postgres.session import Session


def run(
    target: Target,
    model: Model,
    *,
    database: str | Database | None = None,
    options: RunOptions | None = None,
    stop: Stop | None = None,
    signals: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    consent: Callable[[str], bool] = lambda _: False,
    warm: Warm | None = None,
    report: Report | None = None,
) -> RunResult:
    """Fills every missing vector of the target.

    Args:
        target: the table, its text and its embedding column.
        model: the model that makes the vectors.
        database: connection string; None takes libpq's environment.
        options: limits and engine; None takes the defaults.
        stop: lets another thread end the run early.
        signals: end the run cleanly on SIGINT and SIGTERM, in the main thread.
        progress: called at the start of each step and sweep, and after each block.
        consent: called if the forecast exceeds a limit and ``options.yes`` is not set; True starts the run.
        warm: lets several runs of this process start Ray and load a model only once.
        report: receives each row that is not updated.

    Returns:
        The account of the run. A run that ends early or skips rows also returns: check ``outcome``.

    Raises:
        ConfigError: a setting cannot work; nothing was written.
        LeaseError: another run works on this tracked target.
        PartialRunError: the same, but found only after rows were committed.
        StoppedError: a signal or ``max_seconds`` stopped the run before it had counted its work; nothing was written.
        VecfillError: the run failed; committed rows are kept, and a rerun continues.
    """
    started, options = time.perf_counter(), options or RunOptions()
    stop, state = stop or Stop(), RunState(options.write_limits.max_rate)
    record = RunLog(model.name, chosen(target, model, options), state.fields)

    def tell(event: Progress) -> None:
        state(event)
        progress(event)

    place = Database.resolve(database)
    tell(Progress(step="survey"))
    with (
        wrap_driver_errors(),
        stopping(stop, options.max_seconds, signals=signals),
        _explained(stop),
        closing(Session.connect(place, stopped=stop.is_set)) as session,
        state.waiting.taken(),
        Lease(session.database, options.lease, stop=stop.set, record=record) as lease,
        _noted(record, stop),
    ):
        prepared = prepare(session, target, model, options, lease=lease, consent=consent)
        drain = Drain(prepared=prepared, stop=stop, limit=options.limit, progress=tell)
        with prepared.source.ending():
            if prepared.job is not None and not stop.is_set():
                tell(Progress(step="engine"))
                label = prepared.relation.table.label
                with (
                    contextlib.nullcontext(warm) if warm else closing(Warm()) as kept,
                    ledger_expected(session, prepared.relation),
                    opened(prepared.job, options.engine, prepared.before.open, kept) as engine,
                    report.of(label) if report else contextlib.nullcontext() as rows,
                ):
                    prepared.startup.done("engine")
                    with commits_told(engine):
                        drain.until_dry(engine, rows)
                lease.check(stop.reason)
        result = result_of(drain, started, record.run_id)
        record.note_end(result.outcome, result.exit_code, _counts(result))
        return result


def _counts(result: RunResult) -> dict[str, Any]:
    """What the ledger keeps of a result: all but what its row says otherwise, and the keys of rows."""
    apart = ("run_id", "table", "model", "outcome", "exit_code", "quarantine")
    return {name: value for name, value in result.as_dict().items() if name not in apart}


@contextlib.contextmanager
def _noted(record: RunLog, stop: Stop) -> Iterator[None]:
    """Notes an error that ends a run."""
    try:
        yield
    except BaseException as error:
        code = exit_code(stop.reason) if isinstance(error, StoppedError) else None
        outcome = "stopped" if isinstance(error, StoppedError | KeyboardInterrupt) else "failed"
        message = server_message(error) or type(error).__name__
        record.note_end(outcome, code or int(getattr(error, "exit_code", 1)), {"error": message})
        raise


@contextlib.contextmanager
def _explained(stop: Stop) -> Iterator[None]:
    """Says what stopped a run before its first block; later, a stop ends with a result."""
    try:
        yield
    except StoppedError as error:
        code = exit_code(stop.reason) or StoppedError.exit_code
        raise StoppedError(
            f"stopped by {stop.reason} before anything was written: run again to continue", code
        ) from error
