"""What a run costs before its first block has landed, step by step."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)


class StartupTimes:
    """A clock that is read at the end of each step.

    Attributes:
        seconds: by step: ``survey`` (connection, checks, count and forecast), ``engine`` (Ray, where it is used),
            ``first block`` (read, encoded and written), and ``model``, the part of ``first block`` in which its encoder
            loaded the model and checked it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._at = time.perf_counter()

    def done(self, step: str) -> None:
        """Ends a step; the next begins."""
        now = time.perf_counter()
        self.note(step, now - self._at)
        self._at = now

    def note(self, step: str, seconds: float) -> None:
        """Takes a step's seconds from elsewhere."""
        self.seconds[step] = round(seconds, 3)
        log.debug("start-up: %s took %.2f s", step, seconds)
