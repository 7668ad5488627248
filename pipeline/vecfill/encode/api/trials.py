"""How often, and for how long, one request is tried again."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from vecfill.encode.api.answer import Answer
from vecfill.encode.api.faults import Failure
from vecfill.errors import EncodeError

MOST_FAILURES = 6
"""Failures of one request, 429 aside, that end the run: with the waits in between that is about a quarter minute."""

MOST_WRONG = 3
"""Wrong answers to one request that end the run: a server that cannot count does not learn it."""

BACK_OFF_S, MOST_BACK_OFF_S = 0.5, 30.0
"""First and last bound of the waits, doubled each time; the wait itself is anywhere below (full jitter)."""


@dataclass(frozen=True, kw_only=True)
class Wrong(Failure):
    """An answer that cannot be right; ``answer`` is what can be used of it should it stay so."""

    answer: Answer | None = None


@dataclass
class Trials:
    """What has become of one request so far.

    Attributes:
        what: model and host, for messages.
        give_up_after: seconds that it may take from its first sending: the queue before that is nobody's fault.
        sent: how often it was sent.
        queued_at: when it was to be sent, as ``time.monotonic`` gives it.
    """

    what: str
    give_up_after: float
    sent: int = 0
    queued_at: float = field(default_factory=time.monotonic)
    _sent_at: float = 0.0
    _failures: int = 0
    _wrong: int = 0

    def send(self) -> None:
        """Counts a sending."""
        self._sent_at = self._sent_at if self.sent else time.monotonic()
        self.sent += 1

    def settled(self, outcome: Answer | Failure) -> Answer | None:
        """The answer where there is one; also one with broken vectors, once asking again has not helped."""
        if isinstance(outcome, Wrong):
            self._wrong += 1
            return outcome.answer if self._wrong >= MOST_WRONG else None
        return outcome if isinstance(outcome, Answer) else None

    def wait(self, failure: Failure) -> float:
        """Seconds to wait: what the API asks for, or exponential back-off with full jitter.

        Raises:
            EncodeError: the failures, or the time, are over.
        """
        self._failures += failure.bounded
        guess = random.uniform(0, min(MOST_BACK_OFF_S, BACK_OFF_S * 2 ** min(self.sent - 1, 10)))  # noqa: S311
        wait = guess if failure.wait is None else failure.wait
        spent = time.monotonic() - self._sent_at
        if self._failures >= MOST_FAILURES or self._wrong >= MOST_WRONG or spent + wait > self.give_up_after:
            asked = f", which asks to wait {failure.wait:.0f} s" if failure.wait else ""
            raise EncodeError(
                f"{self.what} gave no vectors in {self.sent} requests and {spent:.0f} s, "
                f"the last: {failure.what}{asked}: run again when it does; what was committed is kept"
            )
        return wait
