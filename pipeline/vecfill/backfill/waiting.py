"""What a run waits for, as its log says: a server that is away, a pause, a rate limit."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vecfill.log_fields import fields_now


class Waiting(logging.Handler):
    """Takes the waits from the log: ``waits_for``, and ``wait_s``, the seconds to the next try.

    Without the latter the wait lasts until the event ``resume`` of the same ``throttle``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._what: str | None = None
        self._until = 0.0
        self._reached: tuple[int, int] | None = None
        self._run_id: str | None = None
        self._throttles: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Takes the newest wait, or the end of a pause; not those of other runs in this process."""
        if self._run_id and (fields := fields_now()) and fields.get("run_id") != self._run_id:
            return
        what, throttle = getattr(record, "waits_for", None), getattr(record, "throttle", None)
        if getattr(record, "event", None) == "resume":
            self._end(throttle)
        elif what and throttle:
            self._throttles[throttle] = what
        elif what:
            self._until = time.monotonic() + getattr(record, "wait_s", float("inf"))
            self._what, self._reached = what, None

    def _end(self, throttle: str | None) -> None:
        if throttle:
            self._throttles.pop(throttle, None)
        else:
            self._what = None

    @property
    def what(self) -> str | None:
        """The wait that the log said last, but for the throttles; None once it is over."""
        return self._what

    @property
    def now(self) -> str | None:
        """All that is waited for, as the log says."""
        return "; ".join([*self._throttles.values(), *([self._what] if self._what else [])]) or None

    def look(self, reached: tuple[int, int]) -> str | None:
        """Returns what is waited for: until rows are encoded or committed after the next try, or the pause is over."""
        if self._reached is None or time.monotonic() < self._until:
            self._reached = reached
        elif reached != self._reached:
            self._what = None
        return self.now

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Reads our log meanwhile."""
        self._run_id = fields_now().get("run_id")
        logger = logging.getLogger("vecfill")
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
