"""What a person wants to know of a run: how far it is, how fast, how long it still takes, and what limits it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vecfill.backfill.progress import Progress
from vecfill.wording import count_of

STEPS = {"survey": "survey", "engine": "Ray", "sweep": "model"}
"""Names of the steps before the first row is encoded."""

SHOWN_S = 0.1
"""A finished step is shown from so many seconds on: without Ray, the engine takes none."""

NEAR = 0.9
"""Share of ``--max-rate`` from which on it is the limit."""


HOURS_UP_TO = 100
SECONDS_UP_TO = 120
"""Shorter times are given in seconds."""


@dataclass
class Pace:
    """Rate of rows that arrive in bursts, over the time since the first burst: what came before it is start-up."""

    rows: int = 0
    _first: tuple[int, float] | None = None
    _at: float = 0.0
    _arrivals: int = 0

    def update(self, rows: int, now: float) -> None:
        """Takes the rows of now; fewer than before are ignored."""
        if rows <= self.rows:
            return
        self.rows, self._at = rows, now
        if self._first is None:
            self._first = rows, now
        else:
            self._arrivals += 1

    def rate(self, now: float) -> float | None:
        """Rows per second; None until rows arrived twice. Falls once the next burst is overdue."""
        if self._first is None or not self._arrivals:
            return None
        rows, started = self._first
        return (self.rows - rows) / max(max(self._at, now - self._gap) - started, 1e-3)

    def left(self, remaining: int, now: float) -> float | None:
        """Seconds until ``remaining`` more rows have arrived."""
        rate = self.rate(now)
        if not remaining or rate is None:
            return None if remaining else 0.0
        return max(0.0, remaining / rate - min(now - self._at, self._gap))

    @property
    def _gap(self) -> float:
        """Mean seconds between two bursts."""
        return (self._at - (self._first or (0, self._at))[1]) / max(1, self._arrivals)


@dataclass
class Meter:
    """Where a run stands.

    Attributes:
        max_rate: the limit of ``--max-rate``, in rows per second.
        position: rows done in the stage that takes longest: encoded, or written.
        rate: rows per second of that stage; None while unknown.
        left: seconds until the sweep is done; None while unknown.
        waits_for: what the run waits for before it can go on, such as the server; None while it works.
    """

    max_rate: float | None = None
    position: int = 0
    rate: float | None = None
    left: float | None = None
    waits_for: str | None = None
    _of: tuple[object, int] | None = None
    _encoded: Pace = field(default_factory=Pace)

    def update(self, event: Progress, now: float) -> None:
        """Takes the state of a sweep at ``now``, in seconds of any clock."""
        if self._of is None or self._of[0] is not event.tally or self._of[1] != event.sweep:
            self.position, self._of, self._encoded = 0, (event.tally, event.sweep), Pace()
        if event.max_rate is not None:
            self.max_rate = event.max_rate if math.isfinite(event.max_rate) else None
        encoded, written = (min(max(rows, event.done), event.eligible) for rows in event.reached())
        self._encoded.update(encoded, now)
        encode_s = self._encoded.left(event.eligible - encoded, now)
        write_rate = self._write_rate(event)
        write_s = (event.eligible - written) / write_rate if write_rate else 0.0
        # The rate of the encoder is unknown after one burst; rows that wait for a limit or a pause are not done.
        held = bool(self.max_rate or self.waits_for) and encoded > written
        writing = held if encode_s is None else write_s > encode_s
        self.left = write_s if writing and write_rate else encode_s
        self.rate = write_rate if writing else self._encoded.rate(now)
        self.position = max(self.position, written if writing else encoded)

    def _write_rate(self, event: Progress) -> float | None:
        """Rows per second of all writers without a pause, within ``max_rate``; None before the first block."""
        rows, seconds = sum(sweep.rows for sweep in event.tally.sweeps), event.tally.seconds["write"]
        if not rows or not seconds:
            return self.max_rate
        return min(rows * event.workers["write"] / seconds, self.max_rate or math.inf)

    def limit(self, event: Progress) -> str | None:
        """What limits the run: ``--max-rate``, or the stage with the most seconds of work per worker."""
        if self.max_rate and self.rate and self.rate >= NEAR * self.max_rate:
            return "--max-rate"
        seconds = event.tally.seconds
        if not any(seconds.values()):
            return None
        return max(seconds, key=lambda stage: seconds[stage] / event.workers[stage])

    def obstacle(self, event: Progress) -> str:
        """What is waited for, or else what limits the run; empty while unknown."""
        return obstacle(self.waits_for, self.limit(event))


@dataclass
class StartupClock:
    """The steps before the first row is encoded, with their seconds."""

    _begun: list[tuple[str, float]] = field(default_factory=list)
    ended: float | None = None

    def update(self, event: Progress, now: float) -> None:
        """Takes the state of a run; the first row that is encoded or finished ends the start-up."""
        if event.step not in [step for step, _ in self._begun]:
            self._begun.append((event.step, now))
        if self.ended is None and (event.done or any(event.reached())):
            self.ended = now

    def lines(self, now: float) -> tuple[str, str]:
        """The steps so far in one line, and the current one alone."""
        ends = [*(at for _, at in self._begun[1:]), self.ended or now]
        steps = [(STEPS[step], end - at) for (step, at), end in zip(self._begun, ends, strict=True)]
        shown = [f"{name} {s:.1f} s" for name, s in steps[:-1] if s >= SHOWN_S] + [
            f"{n} {s:.0f} s" for n, s in steps[-1:]
        ]
        return f"start-up: {', '.join(shown)}", f"start-up: {shown[-1]}"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 5 min`` or ``9 d 4 h``."""
    if seconds < SECONDS_UP_TO:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= HOURS_UP_TO:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def changes_wait(entries: int, oldest_s: float | None) -> str:
    """``3 changes wait, the oldest for 12 min``."""
    what = "1 change waits, and has waited" if entries == 1 else f"{entries:,} changes wait, the oldest"
    return f"{what} for {duration(oldest_s or 0.0)}"


def fields(event: Progress, meter: Meter) -> dict[str, Any]:
    """Returns the state of a sweep as plain values; None where it is unknown."""
    return {
        "done": meter.position,
        "eligible": event.eligible,
        "sweep": event.sweep,
        "rows_per_s": meter.rate,
        "seconds_left": meter.left,
        "limited_by": meter.limit(event),
        "waiting_for": meter.waits_for,
    }


def line(state: Mapping[str, Any]) -> str:
    """One plain line of ``fields``."""
    done, eligible = state["done"], state["eligible"]
    share = min(100.0, 100.0 * done / eligible) if eligible else 100.0
    rate, left = state["rows_per_s"], state["seconds_left"]
    parts = [
        f"{done:,} of {count_of(eligible, 'row')} ({share:.0f}%)",
        *([] if rate is None else [f"{rate:,.0f} rows/s"]),
        *([] if left is None else [f"{duration(left)} left"]),
        *([found] if (found := obstacle(state["waiting_for"], state["limited_by"])) else []),
    ]
    return ", ".join(parts)


def obstacle(waits_for: str | None, limit: str | None) -> str:
    """What is waited for, or else what limits the run; empty while unknown."""
    if waits_for:
        return f"waiting for: {waits_for}"
    return f"limited by: {limit}" if limit else ""
