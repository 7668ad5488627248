"""Peak memory of a process and its children, sampled with psutil while they work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from vecfill.background import in_background

EVERY_S = 0.2
"""A sample of thirty processes costs about 3 ms."""


@dataclass
class Peak:
    """The most bytes seen."""

    bytes: int = 0


@contextmanager
def watched(pid: int) -> Iterator[Peak]:
    """Watches the process and its descendants until the end of the block."""
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while True:
            peak.bytes = max(peak.bytes, held(pid))
            if done.wait(EVERY_S):
                return

    with in_background("memory", watch, done.set):
        yield peak


def held(pid: int) -> int:
    """Resident bytes of the process tree now; 0 where there is no such process.

    Private memory adds up; memory that processes share (libraries, Ray's object store) counts once, by the process that
    maps most of it.
    """
    import psutil

    private, shared = 0, 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                info = process.memory_info()
                private += info.rss - info.shared
                shared = max(shared, info.shared)
    return private + shared
