"""The main job: survey, check, sweep until nothing eligible remains, survey again, account for every row."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from vecfill.blocks import OUTCOMES
from vecfill.encode.spec import Model
from vecfill.encode.stage import EncodeSpec
from vecfill.engine.choice import EngineOptions, opened
from vecfill.engine.job import Engine, Job, Stop
from vecfill.engine.signals import stopping
from vecfill.errors import ConfigError
from vecfill.postgres.session import Connection, Database, Session
from vecfill.postgres.target import Relation, Target, inspect
from vecfill.preflight import Sample, check_sql, check_writable, check_write, draw_sample, settle_dimension
from vecfill.read.ranges import plan_ranges
from vecfill.read.survey import Coverage, Survey, survey
from vecfill.result import RunResult, judge
from vecfill.tally import Sweep, Tally

log = logging.getLogger(__name__)

MAX_SWEEPS = 6
"""Passes over what remains. The first takes nearly all; the others take rows that moved, changed or were locked."""

PAUSE_S = 0.25
"""Wait before a sweep where the last one settled nothing, rows being locked by others; doubled each time, to 4 s."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What bounds a run, and how it is carried out."""

    limit: int | None = None
    max_seconds: float | None = None
    allow_mixed: bool = False
    dedupe: bool = True
    engine: EngineOptions = field(default_factory=EngineOptions)

    def __post_init__(self) -> None:
        for name in ("limit", "max_seconds"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ConfigError(f"{name} is {value}: it must be above 0, or None for no bound")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: rows that came to an end in this sweep of those it was to read, and the account so far."""

    done: int
    eligible: int
    sweep: int
    tally: Tally
    workers: dict[str, int]


def run(
    target: Target,
    model: Model,
    *,
    database: str | Database | None = None,
    options: RunOptions = RunOptions(),
    stop: Stop | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunResult:
    """Fills every missing vector of the target.

    Args:
        target: the table, its text and its embedding column.
        model: what makes the vectors.
        database: connection string; None takes libpq's environment.
        options: bounds and engine.
        stop: lets another thread end the run early; SIGINT and SIGTERM do so by themselves in the main thread.
        progress: called after each block.

    Returns:
        The account of the run. A run that ends early or leaves rows out returns too: look at ``outcome``.

    Raises:
        ConfigError: something cannot work as given; nothing was written, but for a trigger that rewrites texts.
        VecfillError: the run failed; what was committed is kept, and a rerun goes on.
    """
    started = time.perf_counter()
    place = (database if isinstance(database, Database) else Database.named(database)).reachable()
    stop = stop or Stop()
    session = Session(place)
    with closing(session):
        relation, found = session.run(lambda connection: _survey(connection, target))
        if model.is_local or found.coverage.missing:
            relation = settle_dimension(relation, model)
        if not found.coverage.missing:
            return _result(relation, model, started, before=found.coverage, after=found.coverage)
        sample = session.run(lambda connection: draw_sample(connection, relation))
    job = _job(place, relation, model.anchored(), sample, options)
    with opened(job, options.engine, found.coverage.missing) as engine:
        flow = _Flow(engine=engine, job=job, stop=stop, limit=options.limit, progress=progress)
        with stopping(stop, options.max_seconds and max(0.001, options.max_seconds - (time.perf_counter() - started))):
            after = flow.until_dry(found)
        return _result(relation, model, started, before=found.coverage, after=after.coverage, flow=flow)


def _survey(connection: Connection, target: Target) -> tuple[Relation, Survey]:
    """Introspects and checks the target, then counts it."""
    relation = inspect(connection, target)
    check_writable(connection)
    check_sql(connection, relation)
    check_write(connection, relation)
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
    return Job(database=place, relation=relation, encode=spec)


@dataclass(kw_only=True)
class _Flow:
    """Streams sweep after sweep through one engine, into one tally.

    ``planned`` is what the last sweep was to read, ``seconds`` the wall time that blocks were on their way.
    """

    engine: Engine
    job: Job
    stop: Stop
    limit: int | None
    progress: Callable[[Progress], None]
    tally: Tally = field(default_factory=Tally)
    planned: int = 0
    seconds: float = 0.0

    def until_dry(self, found: Survey) -> Survey:
        """Sweeps until nothing eligible remains, the limit is reached, or another sweep would not help.

        Returns:
            The survey after the last sweep.
        """
        for number in range(MAX_SWEEPS):
            settled = self.tally.rows
            self._sweep(found)
            with closing(Session(self.job.database)) as session:
                found = session.run(lambda connection: survey(connection, self.job.relation))
            if self.stop.is_set() or self._limit_reached() or self.left(found.coverage) <= 0:
                break
            if self.tally.rows == settled and number + 1 < MAX_SWEEPS:
                self.stop.wait(PAUSE_S * 2**number)
        return found

    def left(self, coverage: Coverage) -> int:
        """Eligible rows that are not in quarantine."""
        return coverage.missing - len(self.tally.quarantine)

    def judged(self, after: Coverage) -> tuple[str, int]:
        """Outcome and exit code."""
        return judge(
            self.tally,
            stop_reason=self.stop.reason,
            limit=self.limit,
            left=self.left(after),
            planned=self.planned,
        )

    def _limit_reached(self) -> bool:
        return self.limit is not None and self.tally.rows >= self.limit

    def _sweep(self, found: Survey) -> None:
        ranges = plan_ranges(found.buckets, None if self.limit is None else self.limit - self.tally.rows)
        self.planned = sum(one.rows for one in ranges)
        sweep = self.tally.begin_sweep()
        started = time.perf_counter()
        for result in self.engine.stream(ranges, self.stop):
            self.tally.add(result)
            self.progress(
                Progress(
                    done=sweep.rows,
                    eligible=self.planned,
                    sweep=len(self.tally.sweeps),
                    tally=self.tally,
                    workers=self.engine.workers,
                )
            )
        self.seconds += time.perf_counter() - started
        log.info("sweep %d: %d of %d rows, %s", len(self.tally.sweeps), sweep.rows, self.planned, _counts(sweep))


def _counts(sweep: Sweep) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sweep.counts.items() if count) or "none came to an end"


def _result(
    relation: Relation, model: Model, started: float, *, before: Coverage, after: Coverage, flow: _Flow | None = None
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
        stage_seconds={stage: round(seconds, 3) for stage, seconds in tally.seconds.items()},
        rows_per_s=round(read / streaming, 1) if streaming else 0.0,
        tokens_per_s=round(tally.tokens / streaming, 1) if streaming else 0.0,
        bytes_sent=tally.bytes,
        api=account,
        outcome=outcome,
        exit_code=exit_code,
        before=before,
        after=after,
        quarantine=tuple(tally.quarantine.values()),
    )
