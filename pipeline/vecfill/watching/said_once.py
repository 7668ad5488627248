"""Warnings that a long-lived program says once: while the same trouble lasts, its log must not fill up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vecfill.log_fields import fields_now

AGAIN_S = 3_600.0
"""Seconds after which the same warning is logged again."""


class SaidOnce(logging.Filter):
    """Lets a warning pass that the same target has not logged within the last hour.

    The lines about one wait differ in their details, and count as the same until the wait is over.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        target = str(fields_now().get("target", ""))
        if getattr(record, "event", None) == "resume":
            self._forget(target)
            return True
        if record.levelno != logging.WARNING:
            return True
        wait, now = getattr(record, "waits_for", None), time.monotonic()
        key = target, f"wait: {wait}" if wait else record.getMessage()
        with self._lock:
            self._said = {one: at for one, at in self._said.items() if now - at < AGAIN_S}
            return now == self._said.setdefault(key, now)

    def _forget(self, target: str) -> None:
        with self._lock:
            waits = [key for key in self._said if key[0] == target and key[1].startswith("wait: ")]
            for key in waits:
                del self._said[key]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Filters what the handlers of our logger write."""
        handlers = list(logging.getLogger("vecfill").handlers)
        for handler in handlers:
            handler.addFilter(self)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(self)
