"""What a watch is asked to keep up to date, and how the watch of a target ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from vecfill.config.hooks import HookOptions
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database

SIGNALLED = 128
"""Exit codes above it tell a signal."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A target to watch.

    Attributes:
        target: the table, its text and its embedding column.
        model: the model that makes the vectors.
        database: connection string; None takes libpq's environment.
        options: limits and engine; a watch ignores ``limit``, ``max_seconds``, ``select`` and ``audit``.
        interval: seconds between two looks for work.
        hooks: commands to call when the target has ended or is in trouble.
    """

    target: Target
    model: Model
    database: str | Database | None = None
    options: RunOptions = field(default_factory=RunOptions)
    interval: float = 0.5
    hooks: HookOptions = field(default_factory=HookOptions)


@dataclass(frozen=True, kw_only=True)
class WatchEnded:
    """How the watch of a target ended.

    Attributes:
        table: the table, as the settings name it.
        rows: rows by outcome.
        error: the fault that ended it, or that it had when it was stopped; None if it had none.
        exit_code: of the signal that stopped it; else of that fault; else 0.
    """

    table: str
    rows: dict[str, int]
    error: str | None = None
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class WatchResult:
    """How a watch ended: ``targets`` in the order given."""

    targets: tuple[WatchEnded, ...]

    @property
    def exit_code(self) -> int:
        """The code of the signal that stopped the watch; else of the worst fault; else 0.

        2 means that nothing was written.
        """
        faults = {one.exit_code for one in self.targets if one.exit_code}
        if not faults or max(faults) > SIGNALLED:
            return max(faults, default=0)
        wrote = any(one.rows.get("updated") for one in self.targets)
        code = min(faults)
        return 1 if wrote and code == ConfigError.exit_code else code

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"targets": [one.as_dict() for one in self.targets], "exit_code": self.exit_code}
