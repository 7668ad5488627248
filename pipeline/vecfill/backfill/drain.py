"""The second half of a run: sweep after sweep through one engine, until nothing eligible remains, into one tally."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pyarrow as pa

from vecfill.backfill.prepared import Prepared
from vecfill.backfill.progress import Progress
from vecfill.backfill.row_report import TargetReport
from vecfill.backfill.tally import Sweep, Tally
from vecfill.backfill.target_now import look_again
from vecfill.bisection import SharedFaultError
from vecfill.blocks import UnwrittenRow
from vecfill.engine.choice import max_block_rows
from vecfill.errors import (
    ConfigError,
    DatabaseError,
    ServerGoneError,
    StoppedError,
    TableLockedError,
)
from vecfill.interruptible import Stopped
from vecfill.job import Engine, Stop, Unit
from vecfill.read.survey import Survey
from vecfill.wording import count_of

log = logging.getLogger(__name__)

MAX_SWEEPS = 6
"""Passes over what remains. The first takes nearly all; the others take rows that moved, changed or were locked."""

PAUSE_S = 0.25
"""Wait before the next sweep if the last one finished no row, since others lock them; doubled each time, up to 4 s."""

CLOSING_S = 2.0
"""Longest time after a stop to count the rows that remain: a million rows take about as long."""


@dataclass(kw_only=True)
class Drain:
    """Streams sweep after sweep through an engine, into one tally.

    Attributes:
        prepared: what to drain.
        stop: the request to end early.
        limit: the most rows to finish; None for all.
        progress: called at the start of each sweep and after each block.
        engine: the engine that ran the job; None if no row was eligible.
        report: receives each row that is not updated.
        excluded: keys of rows that count as missing but are not read.
        most_sweeps: passes over what remains, at most.
        log_level: of the line about each sweep.
        tally: the account.
        after: the last survey.
        counted: whether it came after the last sweep; a stop may leave no time for that.
        planned: rows that the last sweep planned to read.
        beyond: eligible rows that it did not plan to read because of the limit.
        seconds: wall time of the streams.
        account: requests, tokens and cost of an API; None for a local model.
    """

    prepared: Prepared
    stop: Stop = field(default_factory=Stop)
    limit: int | None = None
    progress: Callable[[Progress], None] = lambda _: None
    engine: Engine | None = None
    report: TargetReport | None = None
    excluded: tuple[str, ...] = ()
    most_sweeps: int = MAX_SWEEPS
    log_level: int = logging.INFO
    tally: Tally = field(default_factory=Tally)
    after: Survey = field(init=False)
    counted: bool = True
    planned: int = 0
    beyond: int = 0
    seconds: float = 0.0
    account: Any = None

    def __post_init__(self) -> None:
        self.after = self.prepared.found

    def until_dry(self, engine: Engine, report: TargetReport | None = None) -> None:
        """Sweeps until nothing eligible remains, the limit is reached, or another sweep would not help."""
        self.engine, self.report = engine, report
        for number in range(self.most_sweeps):
            finished, quarantine = self.tally.rows, dict(self.tally.quarantine)
            with self._changes_met(quarantine):
                self._sweep(engine, self.after)
            self.counted = self._count(quarantine)
            if not self.counted:
                break
            if not self.after.eligible:
                self._nothing_open()
                break
            if self.stop.is_set() or self._limit_reached():
                break
            if self.tally.rows == finished and number + 1 < self.most_sweeps:
                self.stop.wait(PAUSE_S * 2**number)
        self.account = engine.account()

    def _count(self, quarantine: dict[str, UnwrittenRow]) -> bool:
        """Surveys the table as it is now; returns False if that takes too long after a stop, or if it stays locked."""
        late, counted = _Late(self.stop), False
        try:
            self._look_again(quarantine, thorough=len(self.tally.quarantine) > len(quarantine), stopped=late)
            while not counted:
                with self._changes_met(quarantine, late):
                    self.after = self.prepared.source.survey(
                        excluded=self._quarantined, earlier=self.after, stopped=late
                    )
                    counted = True
        except (StoppedError, TableLockedError) as error:
            log.warning("the rows that remain are not counted: %s", error)
        return counted

    @contextmanager
    def _changes_met(self, quarantine: dict[str, UnwrittenRow], stopped: Stopped | None = None) -> Iterator[None]:
        """Ends the body at an error that a change of the target explains; the run goes on with the target as it is now.

        Raises:
            ConfigError: the run cannot go on with it.
        """
        try:
            yield
        except (ServerGoneError, TableLockedError):
            raise
        except (ConfigError, DatabaseError, SharedFaultError, psycopg.Error):
            if not self._look_again(quarantine, thorough=True, stopped=stopped or _Late(self.stop)):
                raise
            assert self.engine is not None  # noqa: S101
            self.tally.add_committed(self.engine.committed()[0])

    def _look_again(self, quarantine: dict[str, UnwrittenRow], *, thorough: bool, stopped: Stopped) -> bool:
        """Returns whether the target changed; rows that failed before the run knew get another chance."""
        try:
            now = look_again(self.prepared, thorough=thorough, stopped=stopped)
        except StoppedError:
            return False
        if now is self.prepared:
            return False
        assert self.engine is not None and now.job is not None  # noqa: S101, PT018
        self.prepared, self.after = now, replace(self.after, estimates={})
        self.tally.quarantine = dict(quarantine)
        self.engine.retarget(now.job)
        return True

    @property
    def _quarantined(self) -> tuple[str, ...]:
        """Keys of rows that stay missing and are not read again."""
        return (*self.excluded, *self.tally.quarantine)

    def _nothing_open(self) -> None:
        """Notes that the rows changed or locked in the last sweep are finished: by a later block or other sessions."""
        self.tally.dry = True
        if self.report:
            self.report.forget_open()

    def _limit_reached(self) -> bool:
        return self.limit is not None and self.tally.finished >= self.limit

    def _sweep(self, engine: Engine, found: Survey) -> None:
        units = self._units(engine, found)
        self.planned = sum(unit.rows for unit in units)
        self.beyond = found.eligible - self.planned
        sweep = self.tally.begin_sweep()
        if self.report:
            self.report.forget_open()
        started, before = time.perf_counter(), engine.reached
        self.progress(self._progress(engine, sweep, before))
        for result in engine.stream(units, self.stop):
            self._take(result)
            self.progress(self._progress(engine, sweep, before))
        self.seconds += time.perf_counter() - started
        number = len(self.tally.sweeps)
        log.log(
            self.log_level,
            "sweep %d: %d of %s, %s",
            *(number, sweep.rows, count_of(self.planned, "row"), _counts(sweep)),
            extra={"sweep": number, "rows": sweep.rows, "planned": self.planned, **sweep.counts},
        )

    def _progress(self, engine: Engine, sweep: Sweep, before: tuple[int, int]) -> Progress:
        def reached() -> tuple[int, int]:
            encoded, committed = engine.reached
            return encoded - before[0], committed - before[1]

        return Progress(
            done=sweep.rows,
            eligible=self.planned,
            sweep=len(self.tally.sweeps),
            tally=self.tally,
            workers=engine.workers,
            max_rate=self.stop.hold.max_rate,
            reached=reached,
        )

    def _take(self, result: pa.Table) -> None:
        """Adds a WriteResult to the account; the first ends the start-up."""
        if self.report:
            self.report.add(result, self.tally.quarantine)
        self.tally.add(result)
        startup = self.prepared.startup
        if self.tally.sweeps[-1].rows and "first block" not in startup.seconds:
            startup.done("first block")
            startup.note("model", self.tally.load_s)

    def _units(self, engine: Engine, found: Survey) -> list[Unit]:
        source, job = self.prepared.source, self.prepared.job
        assert job is not None  # noqa: S101
        limit = None if self.limit is None else self.limit - self.tally.finished
        most_rows = max_block_rows(job.encode, engine.name)
        try:
            return [*source.plan(found, limit=limit, most_rows=most_rows, excluded=self._quarantined)]
        except StoppedError:
            return []


class _Late:
    """Whether a stop was requested for over ``CLOSING_S`` seconds, since this was first asked."""

    def __init__(self, stop: Stop) -> None:
        self._stop, self._until = stop, float("inf")

    def __call__(self) -> bool:
        if self._until == float("inf") and self._stop.is_set():
            self._until = time.monotonic() + CLOSING_S
        return time.monotonic() > self._until


def _counts(sweep: Sweep) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sweep.counts.items() if count) or "none finished"
