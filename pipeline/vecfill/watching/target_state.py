"""What is known of a watched target, in memory: its thread writes it, scrapes and probes read it without any SQL."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from vecfill.backfill.drain import Drain
from vecfill.backfill.tally import Tally
from vecfill.read.look import Look
from vecfill.read.survey import Coverage

STARTING, WATCHING, STANDBY, AWAY, ENDED = "starting", "watching", "standby", "away", "ended"
"""Phases. On standby another program holds the lease; away is the server, or the target has a fault that may pass."""

READY = WATCHING, STANDBY

SERVER = "the server"
"""What the log says that a broken connection waits for."""

OF_THE_SERVER = SERVER, "a locked table"
"""Waits that are over once a statement succeeds."""

STUCK_S = 180.0
"""Seconds without a turn of the loop after which it counts as stuck. A block takes about five; waits turn it too."""


@dataclass
class TargetState:
    """The state of one target.

    Attributes:
        target: its table, as the settings name it.
        model: the name of its model.
        phase: one of the phases above.
        reason: why it is not watched; None while it is.
        rows: rows by outcome.
        seconds: seconds of work by stage.
        tokens: tokens before truncation.
        drains: drains that ended.
        errors: errors that ended a drain or a connection, by class.
        queued: entries of the queue at the last look.
        coverage: at the last survey; None before it.
        failed: rows set aside at the last survey.
        lease: whether this program holds the lease; None if the target is not tracked.
        waiting: returns what the work waits for, such as the server; None while it goes on.
        succeeded_at: Unix time when the target was last seen to be up to date; None before.
    """

    target: str
    model: str
    phase: str = STARTING
    reason: str | None = None
    rows: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    drains: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    queued: int = 0
    coverage: Coverage | None = None
    failed: int = 0
    lease: bool | None = None
    waiting: Callable[[], str | None] = lambda: None
    succeeded_at: float | None = None
    _oldest_at: float | None = None
    _turned_at: float = field(default_factory=time.monotonic)
    _seen: Counter[str] = field(default_factory=Counter)

    def turned(self) -> None:
        """The loop goes on, or waits with open eyes."""
        self._turned_at = time.monotonic()

    @property
    def stuck(self) -> bool:
        """Whether the loop shows no sign of life."""
        return self.phase != ENDED and time.monotonic() - self._turned_at > STUCK_S

    @property
    def ready(self) -> bool:
        """Whether the target was checked, and its server answers."""
        return self.phase in READY and self.waiting() != SERVER

    @property
    def oldest_s(self) -> float:
        """Age of the oldest entry of the queue, in seconds; 0 if it is empty."""
        return 0.0 if self._oldest_at is None else time.monotonic() - self._oldest_at

    def is_now(self, phase: str, reason: str | None = None) -> None:
        """Enters a phase."""
        self.phase, self.reason = phase, reason
        self.turned()

    def looked(self, look: Look) -> None:
        """Takes the result of a look; one that found nothing is a success."""
        self.queued = look.rows
        self._oldest_at = None if look.oldest_s is None else time.monotonic() - look.oldest_s
        if not look.rows:
            self.succeeded_at = time.time()

    def surveyed(self, coverage: Coverage, aside: int) -> None:
        """Takes the counts of a survey, and the number of rows that this program set aside."""
        self.coverage, self.failed = coverage, coverage.failed + aside

    def drain_ends(self, drain: Drain) -> None:
        """Takes the rest of a drain; the next tally is a new one. No row left open is a success."""
        self.drains_now(drain.tally)
        self._seen = Counter()
        self.drains += bool(drain.engine)
        if drain.counted and not drain.after.eligible:
            self.succeeded_at = time.time()

    def drains_now(self, tally: Tally) -> None:
        """Adds what a tally of the current drain has more than before."""
        now = Counter[str]()
        for sweep in tally.sweeps:
            now.update(sweep.counts)
        now["tokens"] = tally.tokens
        more = now - self._seen
        self.tokens += more.pop("tokens", 0)
        self.rows.update(more)
        for stage, seconds in tally.seconds.items():
            self.seconds[stage] += seconds - self._seen[f"{stage}_s"]  # type: ignore[assignment]
        now.update({f"{stage}_s": seconds for stage, seconds in tally.seconds.items()})
        self._seen = now
