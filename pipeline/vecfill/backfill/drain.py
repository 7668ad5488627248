"""Sweep after sweep through one engine, until nothing eligible remains, into one tally."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pyarrow as pa

from vecfill.backfill.result import judge
from vecfill.backfill.row_report import Sink
from vecfill.backfill.startup import StartupTimes
from vecfill.backfill.tally import Sweep, Tally
from vecfill.engine.choice import most_block_rows
from vecfill.job import Engine, Job, Stop
from vecfill.postgres.session import Connection, Session
from vecfill.read.survey import Coverage, Survey, survey
from vecfill.read.units import PageRange, plan_ranges

log = logging.getLogger(__name__)

MAX_SWEEPS = 6
"""Passes over what remains. The first takes nearly all; the others take rows that moved, changed or were locked."""

PAUSE_S = 0.25
"""Wait before a sweep where the last one settled nothing, rows being locked by others; doubled each time, to 4 s."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: rows that came to an end in this sweep of those it was to read, and the account so far."""

    done: int
    eligible: int
    sweep: int
    tally: Tally
    workers: dict[str, int]


@dataclass(kw_only=True)
class Drain:
    """Streams sweep after sweep through one engine, into one tally.

    ``planned`` is what the last sweep was to read, ``beyond`` what the limit kept it from reading, ``seconds`` the wall
    time that blocks were on their way.
    """

    engine: Engine
    job: Job
    session: Session
    stop: Stop
    limit: int | None
    progress: Callable[[Progress], None]
    startup: StartupTimes = field(default_factory=StartupTimes)
    sink: Sink | None = None
    tally: Tally = field(default_factory=Tally)
    planned: int = 0
    beyond: int = 0
    seconds: float = 0.0

    def until_dry(self, found: Survey) -> Survey:
        """Sweeps until nothing eligible remains, the limit is reached, or another sweep would not help.

        Returns:
            The survey after the last sweep.
        """
        for number in range(MAX_SWEEPS):
            settled = self.tally.rows
            self._sweep(found)
            found = self.session.run(partial(self._surveyed, found))
            if self.left(found.coverage) <= 0:
                self._nothing_open()
                break
            if self.stop.is_set() or self._limit_reached():
                break
            if self.tally.rows == settled and number + 1 < MAX_SWEEPS:
                self.stop.wait(PAUSE_S * 2**number)
        return found

    def _surveyed(self, earlier: Survey, connection: Connection) -> Survey:
        """Rows in quarantine stay missing, but are not read again."""
        return survey(connection, self.job.relation, excluded=tuple(self.tally.quarantine), earlier=earlier)

    def left(self, coverage: Coverage) -> int:
        """Eligible rows that are not in quarantine."""
        return coverage.missing - len(self.tally.quarantine)

    def _nothing_open(self) -> None:
        """Rows that the last sweep found changed or held were settled since: by a later block, or by somebody else."""
        self.tally.dry = True
        if self.sink:
            self.sink.forget_open()

    def judged(self, after: Coverage) -> tuple[str, int]:
        """Outcome and exit code."""
        return judge(
            self.tally,
            stop_reason=self.stop.reason,
            limit=self.limit,
            left=self.left(after),
            planned=self.planned,
            beyond=self.beyond,
        )

    def _limit_reached(self) -> bool:
        return self.limit is not None and self.tally.settled >= self.limit

    def _sweep(self, found: Survey) -> None:
        ranges = self._ranges(found)
        self.planned = sum(one.rows for one in ranges)
        self.beyond = sum(bucket.rows for bucket in found.buckets) - self.planned
        sweep = self.tally.begin_sweep()
        if self.sink:
            self.sink.forget_open()
        started = time.perf_counter()
        for result in self.engine.stream(ranges, self.stop):
            self._take(result)
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

    def _take(self, result: pa.Table) -> None:
        """Adds a WriteResult to the account; the first ends the start-up."""
        if self.sink:
            self.sink.add(result, self.tally.quarantine)
        self.tally.add(result)
        if self.tally.sweeps[-1].rows and "first block" not in self.startup.seconds:
            self.startup.done("first block")
            self.startup.note("model", self.tally.load_s)

    def _ranges(self, found: Survey) -> list[PageRange]:
        limit = None if self.limit is None else self.limit - self.tally.settled
        excluded = tuple(self.tally.quarantine)
        most = most_block_rows(self.job.encode.model, self.engine.name)
        return [replace(one, excluded=excluded) for one in plan_ranges(found.buckets, limit, most)]


def _counts(sweep: Sweep) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sweep.counts.items() if count) or "none came to an end"
