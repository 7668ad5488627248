"""What every verb that fills a target does around its drains: connect, take the lease, record, and drain.

A run drains once; a watch drains again and again within one lease.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from vecfill.backfill.drain import Drain
from vecfill.backfill.pacing import Pacing
from vecfill.backfill.prepared import Prepared
from vecfill.backfill.row_report import Report, TargetReport
from vecfill.backfill.run_state import RunState
from vecfill.backfill.tracked_checks import ledger_expected
from vecfill.config.model import Model
from vecfill.config.options import chosen
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.engine.choice import opened
from vecfill.engine.signals import exit_code
from vecfill.engine.warm import Warm
from vecfill.errors import ConfigError, PartialRunError, StoppedError
from vecfill.job import Engine, Stop
from vecfill.ledger.lease import Lease
from vecfill.ledger.run_log import RunLog
from vecfill.log_fields import logged_with
from vecfill.postgres.database import Database
from vecfill.postgres.driver_errors import server_message, wrap_driver_errors
from vecfill.postgres.session import Session
from vecfill.wording import count_of


@dataclass(frozen=True, kw_only=True)
class Work:
    """Connection, lease, record and pacing of whoever fills a target."""

    session: Session
    lease: Lease
    record: RunLog
    pacing: Pacing


@contextlib.contextmanager
def at_work(
    target: Target, model: Model, place: Database, options: RunOptions, *, stop: Stop, state: RunState
) -> Iterator[Work]:
    """Connects, and at the end gives the lease back and records how the work ended, also by an error.

    The log lines of this thread, and of those that it starts, carry the target and the id of the run.

    Raises:
        UnreachableError: the server does not answer or rejects the connection.
        DatabaseError: a driver error that the body did not handle.
        LeaseError: another run took over meanwhile.
    """
    pacing = Pacing(place, options.write_limits, stop)
    record = RunLog(model.name, chosen(target, model, options), state.fields, pacing.adjust)
    with (
        logged_with(run_id=record.run_id, target=target.table),
        wrap_driver_errors(),
        closing(Session.connect(place, stopped=stop.is_set)) as session,
        state.waiting.taken(),
        Lease(session, options.lease, stop=stop.set, record=record) as lease,
        _noted(record, stop),
    ):
        yield Work(session=session, lease=lease, record=record, pacing=pacing)


@contextlib.contextmanager
def engine_opened(work: Work, prepared: Prepared, options: RunOptions, warm: Warm | None) -> Iterator[Engine]:
    """Starts the engine that fits the work that was found; without ``warm`` nothing of it is kept."""
    assert prepared.job is not None  # noqa: S101
    rows = min(prepared.before.open, options.limit or prepared.before.open)
    with (
        contextlib.nullcontext(warm) if warm else closing(Warm()) as kept,
        ledger_expected(work.session, prepared.relation),
        opened(prepared.job, options.engine, rows, kept) as engine,
    ):
        prepared.startup.done("engine")
        yield engine


def drain_with(engine: Engine, drain: Drain, report: Report | None = None) -> None:
    """Drains through an open engine.

    Raises:
        PartialRunError: a ConfigError came after rows were committed.
    """
    label = drain.prepared.relation.table.label
    rows: contextlib.AbstractContextManager[TargetReport | None]
    rows = report.of(label) if report else contextlib.nullcontext()
    with rows as some, commits_told(engine):
        drain.until_dry(engine, some)


@contextlib.contextmanager
def commits_told(engine: Engine) -> Iterator[None]:
    """Tells a ConfigError after the first commit from one before: exit code 2 means that nothing was written.

    Raises:
        PartialRunError: a ConfigError came after rows were committed.
    """
    try:
        yield
    except ConfigError as error:
        rows, all_known = engine.committed()
        if rows == 0 and all_known:
            raise
        done = count_of(rows, "row", "was") if all_known else f"{count_of(rows, 'row')} or more were"
        raise PartialRunError(f"{error}; {done} committed before, and a rerun continues") from error


@contextlib.contextmanager
def _noted(record: RunLog, stop: Stop) -> Iterator[None]:
    """Notes an error that ends the work."""
    try:
        yield
    except BaseException as error:
        code = exit_code(stop.reason) if isinstance(error, StoppedError) else None
        outcome = "stopped" if isinstance(error, StoppedError | KeyboardInterrupt) else "failed"
        message = server_message(error) or type(error).__name__
        record.note_end(outcome, code or int(getattr(error, "exit_code", 1)), {"error": message})
        raise
