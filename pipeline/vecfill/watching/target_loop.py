"""The watch of one target, in a thread of its own: look, drain, wait; and go on after whatever may pass."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, MutableMapping
from contextlib import closing
from typing import Any

from vecfill.backfill.pacing import THREAD as PACING_THREAD
from vecfill.backfill.prepared import Prepared
from vecfill.backfill.progress import Progress
from vecfill.backfill.run_state import RunState
from vecfill.backfill.work import Work, at_work
from vecfill.engine.signals import exit_code
from vecfill.errors import BudgetError, LeaseError, StoppedError
from vecfill.job import BUDGET, LOCKED, Stop
from vecfill.ledger.lease import LOST
from vecfill.log_fields import logged_with
from vecfill.postgres.database import Database
from vecfill.watching import faults
from vecfill.watching.drains import Budget, Drains
from vecfill.watching.memory import clean_up
from vecfill.watching.patience import LASTING_S, Backoff
from vecfill.watching.rounds import Rounds
from vecfill.watching.target_state import AWAY, ENDED, SERVER, STANDBY, WATCHING, TargetState
from vecfill.watching.watched import Watched, WatchEnded

log = logging.getLogger(__name__)

LEASE_LOOK_S = 5.0
"""Longest time between two attempts to take a lease that another program holds."""


class _Polled(Stop):
    """A stop that notes when somebody asks for it: who works or waits asks all the time, who is stuck does not."""

    def __init__(self, asked: Callable[[], None]) -> None:
        super().__init__()
        self._asked = asked

    def is_set(self) -> bool:
        """Whether the stop was requested."""
        if threading.current_thread().name != PACING_THREAD:  # which asks whatever the others do
            self._asked()
        return super().is_set()


class TargetLoop:
    """Watches one target.

    Attributes:
        hooks: the commands to call about it.
        state: what is known of the target.
        stop: the request to end the current connection's work; whoever stops the watch sets it.
        checked: the target was checked, or cannot be watched.
        ended: how the watch ended; None while it goes on.
    """

    def __init__(self, watched: Watched, kept: MutableMapping[str, Any], *, start: threading.Event) -> None:
        """Takes what this process keeps of the model; nothing is written before ``start``."""
        self._watched, self._kept, self._start = watched, kept, start
        self._place = Database.resolve(watched.database)
        self._backoff, self._budget = Backoff(), Budget()
        self.hooks = watched.hooks
        self.state = TargetState(target=watched.target.table, model=watched.model.name)
        self.stop: Stop = _Polled(self.state.turned)
        self.checked = threading.Event()
        self.ended: WatchEnded | None = None
        self._fault: Exception | None = None

    def __call__(self) -> None:
        """Watches until a signal stops it, or a fault lasts."""
        with logged_with(target=self._watched.target.table):
            while self.ended is None:
                try:
                    self._work()
                except Exception as error:
                    self._met(error)
                if self.ended is None:
                    clean_up()
            self.state.is_now(ENDED, self.ended.error)
            if self._fault is not None and self.checked.is_set():
                kind = type(self._fault).__name__
                log.error("no longer watched: %s", self.ended.error, extra={"error": kind})
                log.debug("traceback of the error above", exc_info=self._fault)
            self.checked.set()

    @property
    def fault(self) -> Exception | None:
        """The error that ended the watch, if one did."""
        return self._fault if self.ended else None

    def ask_to_stop(self, reason: str) -> None:
        """Has the batches in flight committed, and the watch end."""
        self.stop.set(reason, override=True)

    def _work(self) -> None:
        """Connects, takes the lease, and keeps both until something ends that."""
        watched, run = self._watched, RunState(self._watched.options.write_limits.max_rate)

        def tell(event: Progress) -> None:
            run(event)
            self.state.drains_now(event.tally)

        stop = self.stop
        self.state.waiting = lambda: "a pause" if stop.hold.paused else run.waits_for()
        with (
            at_work(watched.target, watched.model, self._place, watched.options, stop=stop, state=run) as work,
            closing(Drains(work, watched, stop=stop, kept=self._kept, progress=tell, budget=self._budget)) as drains,
        ):
            prepared = self._begin(drains)
            with work.pacing.watching(prepared.relation):
                rounds = Rounds(drains, self.state, run, stop=stop, interval=watched.interval)
                rounds.until_stopped(self._goes_on)
            work.lease.check(stop.reason)
            self._end_of_stop(work)

    def _begin(self, drains: Drains) -> Prepared:
        """Prepares the target; waits while another program works on it, and until the whole watch may start."""
        while True:
            try:
                prepared = drains.refresh()
                break
            except LeaseError as error:
                if self.state.phase != STANDBY:
                    log.info("standing by: %s", error)
                self.state.is_now(STANDBY, str(error))
                self.state.lease = False
                self.checked.set()
                self._wait(min(LEASE_LOOK_S, self._watched.options.lease / 4))
        self.state.lease = True if prepared.tracked else None
        self.state.surveyed(prepared.before, 0)
        self.checked.set()
        while not self._start.wait(0.1):
            self._wait(0)
        log.info("watching %s", prepared.relation.table.label, extra={"event": "watching"})
        if self._fault is None:
            self.state.is_now(WATCHING)
        return prepared

    def _goes_on(self) -> None:
        """Notes that a round is over, so that no fault lasts: a drain that fails is part of the next first round."""
        if self._backoff.failing_since is not None:
            seconds = self._backoff.failing_s
            log.warning("watching again after %.0f s", seconds, extra={"event": "resume", "seconds": seconds})
            self._backoff.succeeded()
            self._fault = None
            self.state.is_now(WATCHING)

    def _wait(self, seconds: float) -> None:
        self.state.turned()
        if self.stop.wait(seconds):
            raise StoppedError("stopped while waiting")

    def _end_of_stop(self, work: Work) -> None:
        """Records why the work ended; a stop that no signal caused ends this connection's work alone."""
        reason, code = self.stop.reason, exit_code(self.stop.reason) or 0
        if reason == LOCKED:
            raise faults.PassingError("another session keeps the whole table locked")
        if reason == BUDGET:
            raise BudgetError("the budget of the API is spent, and only a restart gives it another")
        self._end(code)
        work.record.note_end("stopped", code, dict(self.state.rows))

    def _end(self, code: int) -> None:
        """Ends the watch; a fault that it has is its error."""
        fault = self._fault
        self.ended = WatchEnded(
            table=self._watched.target.table,
            rows=dict(self.state.rows),
            error=faults.message(fault) if fault else None,
            exit_code=code or (faults.code(fault) if fault else 0),
        )

    def _met(self, error: Exception) -> None:
        """Ends the watch, or waits before the next attempt; says what happened."""
        if self.stop.is_set() and self.stop.reason not in (LOST, LOCKED, BUDGET):
            if not isinstance(error, StoppedError):
                log.debug("the stop ended what failed: %s", faults.message(error))
            self._end(exit_code(self.stop.reason) or 0)
            return
        self.stop = _Polled(self.state.turned)
        self.state.lease = False if self.state.lease is not None else None
        if isinstance(error, LeaseError):
            log.warning("%s", error)
            return
        self.state.errors[type(error.__cause__ if isinstance(error, faults.PassingError) else error).__name__] += 1
        passes = faults.passes(error, self._place, first=not self.checked.is_set())
        self._fault = None if passes else error
        wait = self._backoff.failed()
        if not passes and (not self.checked.is_set() or isinstance(error, BudgetError) or self._lasts):
            self._end(0)
            return
        log.warning(
            "%s; trying again until it passes%s",
            *(faults.message(error), "" if passes else f", for {LASTING_S:.0f} s at most"),
            extra={"waits_for": SERVER if passes else "the target", "wait_s": wait},
            exc_info=None if faults.known(error) else error,
        )
        self.state.is_now(AWAY, faults.message(error))
        if passes:
            self.checked.set()
        self.stop.wait(wait)

    @property
    def _lasts(self) -> bool:
        return self._backoff.failing_s > LASTING_S
