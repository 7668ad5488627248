"""``--max-latency``: how much a run writes while the server is slow for others. Pure.

The rule is that of TCP: a slow probe halves the share of the time in which a writer may write, and each probe in time
adds a sixteenth. So the run leaves a busy server within seconds, comes back within a quarter of a minute, and always
writes a little: who holds a server up may not be this run.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST = 1 / 64
"""Smallest share: the run never stops for good because of somebody else's load."""

STEP = 1 / 16


@dataclass
class WritingShare:
    """The share of the time in which a writer may write.

    Attributes:
        value: the share, from ``LEAST`` to 1.
    """

    value: float = 1.0

    def update(self, seconds: float, limit: float) -> None:
        """Takes how long a probe took, and how long it may take."""
        self.value = max(LEAST, self.value / 2) if seconds > limit else min(1.0, self.value + STEP)
