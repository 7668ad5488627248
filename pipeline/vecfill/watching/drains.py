"""A target that is drained again and again: what was prepared once serves the next drains, as do engine and model."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from vecfill.backfill.drain import MAX_SWEEPS, Drain
from vecfill.backfill.prepare import prepare
from vecfill.backfill.prepared import Prepared
from vecfill.backfill.progress import Progress
from vecfill.backfill.target_now import lasting
from vecfill.backfill.work import Work, drain_with, engine_opened
from vecfill.engine.choice import choose, gpu_count
from vecfill.engine.inline import InlineEngine
from vecfill.job import Engine, Job, Shared, Stop
from vecfill.postgres.driver_errors import TABLE_CHANGED
from vecfill.postgres.read_sql import suggested_index
from vecfill.read.look import Look
from vecfill.watching.memory import give_back
from vecfill.watching.patience import LOOK_PAGES
from vecfill.watching.rows_aside import RowsAside
from vecfill.watching.watched import Watched
from vecfill.wording import count_of

log = logging.getLogger(__name__)

REFRESH_S = 300.0
"""Seconds after which the target is inspected, checked and surveyed as a run does at its start."""

MANY_ROWS = 1_000
"""Rows of a drain from which on its cost is forecast, and confirmed, as that of a run."""

_ONE_RAY = threading.Lock()
"""Ray serves one drain of this process at a time."""


class Budget:
    """What the encoders of a target share for as long as it is watched, such as what an API may cost."""

    def __init__(self) -> None:
        self._shared: Shared | None = None

    def of(self, job: Job) -> Shared | None:
        """Returns it, made from the first job; None for a local model."""
        if self._shared is None:
            self._shared = job.encode.shared()
        return self._shared


class Drains:
    """Prepares and drains a target. Close it at the end.

    Attributes:
        prepared: the target, ready to drain.
        fresh: its survey has just been made, for the next drain to use.
        aside: rows that are passed over for now.
        survey_s: seconds of the last survey.
    """

    def __init__(
        self,
        work: Work,
        watched: Watched,
        *,
        stop: Stop,
        kept: MutableMapping[str, Any],
        progress: Callable[[Progress], None],
        budget: Budget,
    ) -> None:
        """Takes what this process keeps of the model, such as its weights."""
        self._budget = budget
        self._work, self._watched, self._stop = work, watched, stop
        self._kept, self._progress = kept, progress
        self._engine: InlineEngine | None = None
        self._job: Job | None = None
        self._refreshed_at, self.fresh, self.survey_s = 0.0, False, 0.0
        self.prepared: Prepared | None = None
        self.aside = RowsAside()

    def refresh(self) -> Prepared:
        """Does what a run does before it writes.

        Raises:
            As ``prepare``.
        """
        work, watched, before = self._work, self._watched, self.prepared
        options = replace(watched.options, index="keep", offered=())
        now = prepare(work.session, watched.target, watched.model, options, lease=work.lease)
        if before and before.job and lasting(before.relation) == lasting(now.relation):
            now = replace(before, found=now.found)  # keeps the job, and so the writer with its connection
        self.prepared = now
        self._refreshed_at, self.fresh = time.monotonic(), True
        return now

    @property
    def label(self) -> str:
        """``schema.table``."""
        return self._now.relation.table.label

    @property
    def index_ddl(self) -> str:
        """The statement that makes an index of the rows without a vector, of the first partition if there are some."""
        relation = self._now.relation
        return suggested_index(relation, relation.table.leaves[0]).as_string()

    @property
    def stale(self) -> bool:
        """Whether it is time to refresh."""
        return time.monotonic() - self._refreshed_at > REFRESH_S

    def look(self) -> Look:
        """Looks cheaply for work."""
        return self._now.source.look(self._excluded)

    def tidy(self) -> None:
        """Queues the failed rows of a tracked target whose next attempt is due, and vacuums its queue if that helps."""
        self._now.source.tidy(LOOK_PAGES)

    def drain(self) -> Drain:
        """Surveys the target, unless that is fresh, and drains what it found; ``Drain.engine`` tells whether it did.

        Raises:
            As ``run``.
        """
        prepared, excluded = self._surveyed(), self._excluded
        drain = Drain(
            prepared=prepared,
            stop=self._stop,
            progress=self._progress,
            excluded=excluded,
            most_sweeps=1,
            log_level=logging.DEBUG,
        )
        if prepared.job is None or not prepared.found.eligible or self._stop.is_set():
            return drain
        with prepared.source.ending(), self._engine_for(prepared, prepared.job) as engine:
            drain.most_sweeps = 1 if engine is self._engine else MAX_SWEEPS
            drain_with(engine, drain)
        self.prepared = drain.prepared
        if self._engine is not None and not drain.after.eligible:
            self._engine.encode.forget()
        give_back()
        if not self.prepared.source.remembers_failures:
            self.aside.add(drain.tally.quarantine)
        return drain

    def close(self) -> None:
        """Closes the connections of the engine."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    @property
    def _now(self) -> Prepared:
        assert self.prepared is not None, "refresh comes first"  # noqa: S101
        return self.prepared

    @property
    def _excluded(self) -> tuple[str, ...]:
        return self.aside.now()

    def _surveyed(self) -> Prepared:
        """Returns the target with the work there is now; prepared as for a run if a run would ask before so much."""
        excluded, started = self._excluded, time.monotonic()
        if not self.fresh and not self._surveyed_again(excluded):
            self.refresh()
        if self.fresh and excluded:
            self._surveyed_again(excluded)
        self.fresh, self.survey_s = False, time.monotonic() - started
        return self._now

    def _surveyed_again(self, excluded: tuple[str, ...]) -> bool:
        """Surveys what was prepared; returns whether that will do."""
        before, fresh = self._now, self.fresh
        try:
            found = before.source.survey(excluded=excluded, earlier=before.found)
        except TABLE_CHANGED:
            return False
        self.prepared = replace(before, found=found)
        return fresh or not found.eligible or (before.job is not None and found.eligible < MANY_ROWS)

    @contextmanager
    def _engine_for(self, prepared: Prepared, job: Job) -> Iterator[Engine]:
        """Yields the kept engine of this process; Ray only for as long as a big drain takes."""
        options = self._watched.options
        name, reason = choose(options.engine, rows=prepared.found.eligible, encode=job.encode, gpus=gpu_count())
        if name != "inline":
            rows = count_of(prepared.found.eligible, "row")
            log.info("%s to fill on %s: %s", rows, name, reason, extra={"engine": name})
            with _ONE_RAY, engine_opened(self._work, prepared, options, None) as engine:
                yield engine
            return
        if self._engine is None:
            self._engine = InlineEngine(job, self._kept, shared=self._budget.of(job))
        elif job is not self._job:
            self._engine.retarget(job)
        self._job = job
        yield self._engine
