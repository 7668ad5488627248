"""The main job: survey, check, sweep until nothing eligible remains, survey again, account for every row."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import closing

from vecfill.backfill.checks import (
    Sample,
    check_sql,
    check_writable,
    check_write,
    draw_sample,
    settle_dimension,
    suggest_index,
    tell,
)
from vecfill.backfill.drain import Drain, Progress
from vecfill.backfill.forecast import Forecast, agreed, forecast
from vecfill.backfill.result import RunResult
from vecfill.backfill.row_report import Report
from vecfill.backfill.startup import StartupTimes
from vecfill.backfill.tally import Tally
from vecfill.blocks import OUTCOMES
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.encode.model_location import is_local, portable
from vecfill.encode.stage import EncodeSpec
from vecfill.engine.choice import opened
from vecfill.engine.signals import stopping
from vecfill.engine.warm import Shared
from vecfill.job import Job, Stop
from vecfill.postgres.session import Connection, Database, Session
from vecfill.postgres.target import Relation, inspect
from vecfill.postgres.update_effects import impact_of
from vecfill.read.survey import Coverage, Survey, survey

log = logging.getLogger(__name__)

DEFAULTS = RunOptions()


def run(
    target: Target,
    model: Model,
    *,
    database: str | Database | None = None,
    options: RunOptions = DEFAULTS,
    stop: Stop | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    consent: Callable[[str], bool] = lambda _: False,
    shared: Shared | None = None,
    report: Report | None = None,
) -> RunResult:
    """Fills every missing vector of the target.

    Args:
        target: the table, its text and its embedding column.
        model: what makes the vectors.
        database: connection string; None takes libpq's environment.
        options: bounds and engine.
        stop: lets another thread end the run early; SIGINT and SIGTERM do so by themselves in the main thread.
        progress: called after each block.
        consent: asked, where ``options.yes`` is not set, whether a run above a bound of the forecast may go on.
        shared: lets several runs of this process load a model, and start Ray, only once.
        report: told of each row that is not updated.

    Returns:
        The account of the run. A run that ends early or leaves rows out returns too: look at ``outcome``.

    Raises:
        ConfigError: something cannot work as given; nothing was written, but for a trigger that rewrites texts.
        VecfillError: the run failed; what was committed is kept, and a rerun goes on.
    """
    started, startup = time.perf_counter(), StartupTimes()
    stop = stop or Stop()
    place = database if isinstance(database, Database) else Database.named(database)
    with closing(Session.to(place)) as session:
        relation, found = session.run(lambda connection: _survey(connection, target, options))
        suggest_index(relation, found.coverage.missing + found.coverage.empty)
        if is_local(model) or found.coverage.missing:
            relation = settle_dimension(relation, model)
        if not found.coverage.missing:
            return _result(relation, model, started, before=found.coverage, after=found.coverage)
        impact = session.run(lambda connection: impact_of(connection, relation))
        ahead = agreed(forecast(relation, found, impact, options.limit), relation.label, consent, yes=options.yes)
        sample = session.run(lambda connection: draw_sample(connection, relation))
        startup.done("survey")
        job = _job(session.database, relation, portable(model), sample, options)
        with (
            contextlib.nullcontext(shared) if shared else closing(Shared()) as kept,
            opened(job, options.engine, found.coverage.missing, kept, session) as engine,
            report.of(relation.label) if report else contextlib.nullcontext() as sink,
        ):
            startup.done("engine")
            flow = Drain(
                engine=engine,
                job=job,
                session=session,
                stop=stop,
                limit=options.limit,
                progress=progress,
                startup=startup,
                sink=sink,
            )
            left = options.max_seconds and max(0.001, options.max_seconds - (time.perf_counter() - started))
            with stopping(stop, left):
                after = flow.until_dry(found)
            return _result(
                relation, model, started, before=found.coverage, after=after.coverage, flow=flow, ahead=ahead
            )


def _survey(connection: Connection, target: Target, options: RunOptions) -> tuple[Relation, Survey]:
    """Introspects and checks the target, then counts it."""
    relation = inspect(connection, target)
    check_writable(relation)
    check_sql(connection, relation)
    check_write(connection, relation)
    tell(connection, relation, standbys=options.write_limits.watches_standbys)
    return relation, survey(connection, relation)


def _job(place: Database, relation: Relation, model: Model, sample: Sample, options: RunOptions) -> Job:
    spec = EncodeSpec(
        model=model,
        dim=relation.vector.dim,
        arity=relation.arity,
        sample=sample,
        column=f"{relation.label}.{relation.vector.name}",
        allow_mixed=options.allow_mixed,
        dedupe=options.dedupe,
    )
    return Job(database=place, relation=relation, encode=spec, write_limits=options.write_limits)


def _result(
    relation: Relation,
    model: Model,
    started: float,
    *,
    before: Coverage,
    after: Coverage,
    flow: Drain | None = None,
    ahead: Forecast | None = None,
) -> RunResult:
    """The account of a run; without a flow nothing was eligible, and no engine was started."""
    tally = flow.tally if flow else Tally()
    outcome, exit_code = ("complete", 0) if flow is None else flow.judged(after)
    streaming = flow.seconds if flow else 0.0
    account = flow.engine.account() if flow else None
    if account and account.spent:
        log.warning("%s: a rerun goes on where this one ends", account.spent)
    read = sum(sweep.rows for sweep in tally.sweeps)
    return RunResult(
        run_id=str(uuid.uuid4()),
        table=relation.label,
        model=model.name,
        engine=flow.engine.name if flow else None,
        device=", ".join(sorted(tally.devices)) or None,
        dtype=", ".join(sorted(tally.dtypes)) or None,
        eligible=before.missing,
        embedded=read - sum(sweep.counts["failed"] for sweep in tally.sweeps),
        **{name: tally.total(name) for name in OUTCOMES},
        empty=after.empty,
        truncated=tally.truncated,
        reused=tally.reused,
        remaining=after.missing,
        sweeps=len(tally.sweeps),
        seconds=round(time.perf_counter() - started, 3),
        startup_seconds=flow.startup.seconds if flow else {},
        stage_seconds={stage: round(seconds, 3) for stage, seconds in tally.seconds.items()},
        rows_per_s=round(read / streaming, 1) if streaming else 0.0,
        tokens_per_s=round(tally.tokens / streaming, 1) if streaming else 0.0,
        bytes_sent=tally.bytes,
        api=account,
        outcome=outcome,
        exit_code=exit_code,
        before=before,
        after=after,
        forecast=ahead,
        quarantine=tuple(tally.quarantine.values()),
    )
