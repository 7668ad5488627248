"""Peak memory of a process and its children, from /proc, sampled beside the work."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

EVERY_S = 0.2
"""A sample of thirty processes costs about 3 ms."""

_PROC = Path("/proc")


class Peak:
    """The most bytes that were seen."""

    def __init__(self) -> None:
        self.bytes = 0


@contextmanager
def watched(pid: int) -> Iterator[Peak]:
    """Watches the process and everything below it until the end of the block."""
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while True:
            peak.bytes = max(peak.bytes, held(pid))
            if done.wait(EVERY_S):
                return

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def held(pid: int) -> int:
    """Bytes that the tree holds now.

    What is each process's own adds up; of what processes share (libraries, Ray's object store) the largest view counts
    once. 0 where /proc tells nothing.
    """
    found = [_status(one) for one in family(pid, _parents())]
    own = sum(one.get("RssAnon", 0) for one in found)
    return own + sum(max((one.get(kind, 0) for one in found), default=0) for kind in ("RssFile", "RssShmem"))


def family(pid: int, parents: Mapping[int, int]) -> set[int]:
    """The process and all that descend from it. Pure.

    Args:
        pid: the root.
        parents: parent by process.
    """
    children: dict[int, list[int]] = defaultdict(list)
    for child, parent in parents.items():
        children[parent].append(child)
    found, left = {pid}, [pid]
    while left:
        new = [child for child in children[left.pop()] if child not in found]
        found.update(new)
        left += new
    return found


def _parents() -> dict[int, int]:
    parents = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (stat := _read(entry / "stat")):
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def _status(pid: int) -> dict[str, int]:
    """Bytes by kind, as ``RssAnon``."""
    lines = (line.split() for line in _read(_PROC / str(pid) / "status").splitlines() if line.startswith("Rss"))
    return {parts[0].rstrip(":"): int(parts[1]) * 1024 for parts in lines}


def _read(path: Path) -> str:
    """The file's content; empty where the process ended meanwhile."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
