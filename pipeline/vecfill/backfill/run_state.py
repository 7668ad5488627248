"""Where a run stands, for whoever shows it: a terminal, a log, or the ledger for other terminals."""

from __future__ import annotations

import threading
import time
from typing import Any

from vecfill.backfill.meter import Meter, StartupClock, fields
from vecfill.backfill.progress import Progress
from vecfill.backfill.waiting import Waiting

RESTING = "watching"
"""Step of a watch that has nothing to do."""


class RunState:
    """The state of a run as it was last seen. ``run`` calls it; a thread that shows it calls ``look``."""

    def __init__(self, max_rate: float | None) -> None:
        """Takes the limit of ``--max-rate``."""
        self.meter, self.startup = Meter(max_rate), StartupClock()
        self.event: Progress | None = None
        self.waiting = Waiting()
        self.resting = False
        """Nothing is to do at the moment, and the work goes on when something comes; the next event ends that."""
        self._lock, self._over = threading.Lock(), False

    def __call__(self, event: Progress) -> None:
        """Takes the newest state."""
        self.event, self.resting = event, False
        self.look()

    def look(self) -> Progress | None:
        """Measures how far the blocks in flight are; returns the state, or None before the start."""
        event, now = self.event, time.monotonic()
        if event is not None:
            with self._lock:
                if self._over:
                    return event
                self.meter.waits_for = self.waiting.look(event.reached())
                self.startup.update(event, now)
                if self.startup.ended is not None:
                    self.meter.update(event, now)
        return event

    def waits_for(self) -> str | None:
        """Returns what the run waits for now; None while it goes on."""
        return self.waiting.now if self.look() is None else self.meter.waits_for

    def end(self) -> None:
        """Nothing is in flight any more: the position is what is finished."""
        with self._lock:
            self._over = True
            if self.event is not None:
                self.meter.position, self.meter.left, self.meter.waits_for = self.event.done, None, None

    def fields(self) -> dict[str, Any] | None:
        """Returns the state as plain values: the step and, once rows are encoded, as ``meter.fields``."""
        if self.resting:
            return {"step": RESTING, "waiting_for": self.waiting.now}
        if (event := self.look()) is None:
            return None
        if self.startup.ended is None:
            return {"step": event.step, "waiting_for": self.meter.waits_for}
        return {"step": event.step, **fields(event, self.meter)}
