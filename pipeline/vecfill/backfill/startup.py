"""Seconds of a run before its first block is written, step by step."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)


class StartupTimes:
    """Wall time of the start-up, by step.

    Attributes:
        seconds: of ``survey`` (connection, checks, count and forecast), ``engine`` (Ray, if it is used),
            ``first block`` (read, encoded and written), and ``model``, the part of ``first block`` in which the encoder
            loaded and checked the model.
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
        """Notes the seconds of a step that another clock measured."""
        self.seconds[step] = round(seconds, 3)
        log.debug("start-up: %s took %.2f s", step, seconds)
