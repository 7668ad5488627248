"""Warnings that a long-lived program says once: while the same trouble lasts, its log must not fill up."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vecfill.log_fields import fields_now

AGAIN_S = 3_600.0
"""Seconds after which the same warning is logged again."""

_WAIT = "wait: "
"""Begins the lines that are forgotten when the wait is over."""

_REFUSAL = re.compile(r"FATAL: +([^;]*)")
"""Why a server that answers rejects the connection, such as a password that was changed."""


class SaidOnce(logging.Filter):
    """Lets a warning pass that the same target has not logged within the last hour.

    The lines about one wait differ in their details, and count as the same until the wait is over, unless the server
    gives another reason to reject the connection. Attempts to go on meanwhile repeat their other lines: those too are
    logged once.
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
        if record.levelno not in (logging.WARNING, logging.INFO):
            return True
        text, now = record.getMessage(), time.monotonic()
        if wait := getattr(record, "waits_for", None):
            refusal = _REFUSAL.search(text)
            text = f"{_WAIT}{wait} {refusal[1] if refusal else ''}"
        with self._lock:
            if record.levelno == logging.INFO:
                if not self._waits(target):
                    return True
                text = f"{_WAIT}{text}"
            self._said = {one: at for one, at in self._said.items() if now - at < AGAIN_S}
            return now == self._said.setdefault((target, text), now)

    def _forget(self, target: str) -> None:
        with self._lock:
            for key in self._waits(target):
                del self._said[key]

    def _waits(self, target: str) -> list[tuple[str, str]]:
        """What was said of the wait of a target that is not over."""
        return [key for key in self._said if key[0] == target and key[1].startswith(_WAIT)]

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
