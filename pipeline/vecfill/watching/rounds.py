"""The rounds of a watch: a cheap look, a drain if there may be work, and a wait."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from vecfill.backfill.drain import Drain
from vecfill.backfill.run_state import RunState
from vecfill.backfill.tally import FINAL, Tally
from vecfill.blocks import OUTCOMES
from vecfill.job import Stop
from vecfill.postgres.driver_errors import TABLE_CHANGED
from vecfill.read.look import Look
from vecfill.watching.drains import Drains
from vecfill.watching.patience import Backoff, time_to_look, time_to_scan
from vecfill.watching.target_state import OF_THE_SERVER, TargetState
from vecfill.wording import count_of

log = logging.getLogger(__name__)

TIDY_S = 30.0
"""Seconds between two looks for failed rows whose next attempt is due, and for a queue that needs vacuum."""

SAY_EVERY_S = 60.0
"""Seconds of small drains that one line of the log sums up."""

MANY_ROWS = 100
"""Rows of a drain that gets a line of its own."""

NAMED_ROWS = 10
"""Failed rows of a drain that get a line of their own."""

LONGEST_STUCK_S = 5.0
"""Longest wait before work that did not help is tried again, such as rows that others lock."""


class Rounds:
    """Looks and drains until a stop."""

    def __init__(self, drains: Drains, state: TargetState, run: RunState, *, stop: Stop, interval: float) -> None:
        self._drains, self._state, self._run, self._stop, self._interval = drains, state, run, stop, interval
        self._stuck, self._stuck_rows, self._again_at = Backoff(interval, LONGEST_STUCK_S), 0, 0.0
        self._pending, self._scan_at, self._explained = False, 0.0, False
        self._tidy_at = time.monotonic() + TIDY_S
        self._said_at, self._unsaid = time.monotonic(), Counter[str]()

    def until_stopped(self, done: Callable[[], None]) -> None:
        """Makes round after round; calls ``done`` after each."""
        while not self._stop.is_set():
            wait = self._round()
            done()
            self._run.resting = True
            self._state.turned()
            self._say()
            self._stop.wait(wait)
        self._say(now=True)

    def _round(self) -> float:
        """Looks, and drains if there may be work; returns the seconds to wait before the next round."""
        if self._drains.stale:
            self._drains.refresh()
        if self._drains.fresh and not self._stop.hold.paused:
            return self._drained(self._drains.drain(), None)
        if time.monotonic() > self._tidy_at:
            self._tidy_at = time.monotonic() + TIDY_S
            self._drains.tidy()
        try:
            look = self._drains.look()
        except TABLE_CHANGED:
            self._drains.refresh()
            return 0.0
        self._answered()
        self._state.looked(look)
        self._explain(look)
        self._pending = bool(look.rows) or (look.scans and self._pending)
        if not self._pending or not self._due(look) or self._stop.hold.paused:
            return time_to_look(self._interval, look.pages)
        drain = self._drains.drain()
        self._pending = False
        self._scan_at = time.monotonic() + time_to_scan(self._drains.survey_s) if look.scans else 0.0
        return self._drained(drain, look)

    def _due(self, look: Look) -> bool:
        """Whether a drain may help now: the last one did, or there is other work, or it is long ago."""
        now = time.monotonic()
        if look.scans:
            return now >= self._scan_at
        return look.rows != self._stuck_rows or now >= self._again_at

    def _drained(self, drain: Drain, look: Look | None) -> float:
        """Accounts for a drain; returns the seconds to wait."""
        counts = {outcome: drain.tally.total(outcome) for outcome in OUTCOMES}
        self._state.drain_ends(drain)
        self._state.surveyed(drain.after.coverage, len(self._drains.aside))
        self._note(counts)
        _name_failed(drain.tally)
        if drain.tally.rows or look is None or look.scans:
            self._stuck.succeeded()
            self._stuck_rows = 0
            return 0.0 if drain.tally.rows else self._interval
        self._stuck_rows, wait = look.rows, self._stuck.failed()
        self._again_at = time.monotonic() + wait
        return self._interval

    def _answered(self) -> None:
        """Says that a wait is over: the server answers again. The end of a pause is for others to say."""
        if (what := self._run.waiting.what) in OF_THE_SERVER:
            log.warning("the wait for %s is over", what, extra={"event": "resume"})

    def _explain(self, look: Look) -> None:
        """Says once why it looks less often than it was asked to."""
        if self._explained:
            return
        label, wait = self._drains.label, time_to_look(self._interval, look.pages)
        if look.scans:
            self._explained = True
            log.info(
                "%s has no partial index of the rows without a vector and is not tracked, so it is scanned after "
                "inserts and updates, every %.0f s at most: `vecfill track`, or %s, makes this cheaper",
                *(label, time_to_scan(0), self._drains.index_ddl),
            )
        elif wait > self._interval:
            self._explained = True
            log.info("a look at %s reads %d pages, so that the next comes after %.0f s", label, look.pages, wait)

    def _note(self, counts: dict[str, int]) -> None:
        some = {outcome: rows for outcome, rows in counts.items() if rows}
        if not some:
            return
        self._unsaid.update({**some, "drains": 1})
        trouble = some.keys() - set(FINAL) - {"stale"}
        if trouble or sum(some.values()) >= MANY_ROWS:
            self._say(now=True)

    def _say(self, *, now: bool = False) -> None:
        """Sums up what was drained since the last line."""
        if not now and time.monotonic() - self._said_at < SAY_EVERY_S:
            return
        self._said_at = time.monotonic()
        if self._unsaid:
            drains = self._unsaid.pop("drains")
            text = ", ".join(f"{rows:,} {outcome}" for outcome, rows in self._unsaid.items())
            log.info(
                "%s in %s",
                text,
                count_of(drains, "drain"),
                extra={"event": "drained", "drains": drains, **self._unsaid},
            )
        self._unsaid = Counter()


def _name_failed(tally: Tally) -> None:
    """Says which rows failed or were refused, and why."""
    for row in list(tally.quarantine.values())[:NAMED_ROWS]:
        log.warning("%s: key %s: %s", row.outcome, row.key, row.error, extra={"event": "row", "key": row.key})
    if (more := len(tally.quarantine) - NAMED_ROWS) > 0:
        log.warning("… and %s", count_of(more, "more row"))
