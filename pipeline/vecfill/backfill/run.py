"""The main job: prepare, start an engine, drain, and account for every row."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from vecfill.backfill.drain import Drain
from vecfill.backfill.index_care import IndexCare, indexes_kept
from vecfill.backfill.prepare import prepare
from vecfill.backfill.progress import Progress
from vecfill.backfill.result import RunResult, result_of
from vecfill.backfill.row_report import Report
from vecfill.backfill.run_state import RunState
from vecfill.backfill.work import Work, at_work, drain_with, engine_opened
from vecfill.config.migrate import IndexOptions, LockOptions
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.engine.signals import exit_code, stopping
from vecfill.engine.warm import Warm
from vecfill.errors import StoppedError
from vecfill.job import Stop
from vecfill.postgres.database import Database


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
    indexes: IndexOptions | None = None,
    locks: LockOptions | None = None,
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
        indexes: how to build vector indexes again, which ``options.index`` or a run that died has dropped.
        locks: how long to wait for the table to drop them.

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

    def tell(event: Progress) -> None:
        state(event)
        progress(event)

    place = Database.resolve(database)
    tell(Progress(step="survey"))
    with (
        stopping(stop, options.max_seconds, signals=signals),
        _explained(stop),
        at_work(target, model, place, options, stop=stop, state=state) as work,
    ):
        prepared = prepare(work.session, target, model, options, lease=work.lease, consent=consent)
        drain = Drain(prepared=prepared, stop=stop, limit=options.limit, progress=tell)
        with (
            indexes_kept(work, prepared, indexes or IndexOptions(), locks or LockOptions(), stop) as care,
            prepared.source.ending(),
        ):
            if prepared.job is not None and not stop.is_set():
                _drain(work, drain, options, care, warm=warm, report=report)
        return _accounted(work, drain, started, care)


def _drain(
    work: Work, drain: Drain, options: RunOptions, care: IndexCare, *, warm: Warm | None, report: Report | None
) -> None:
    """Starts the engine, drops the indexes that the run is to do without, and writes the rows."""
    prepared = drain.prepared
    drain.progress(Progress(step="engine"))
    with work.pacing.watching(prepared.relation), engine_opened(work, prepared, options, warm) as engine:
        care.drop(engine)
        drain_with(engine, drain, report)
    work.lease.check(drain.stop.reason)


def _accounted(work: Work, drain: Drain, started: float, care: IndexCare) -> RunResult:
    """Returns the account of the run, which the ledger keeps too."""
    result = result_of(drain, started, work.record.run_id, care.rebuilt)
    work.record.note_end(result.outcome, result.exit_code, _counts(result))
    return result


def _counts(result: RunResult) -> dict[str, Any]:
    """What the ledger keeps of a result: all but what its row says otherwise, and the keys of rows."""
    apart = ("run_id", "table", "model", "outcome", "exit_code", "quarantine")
    return {name: value for name, value in result.as_dict().items() if name not in apart}


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
