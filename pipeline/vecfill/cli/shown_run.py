"""What the progress shows: the state of a run, and a question to whoever started it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import click

from vecfill.backfill.run_state import RunState
from vecfill.engine.signals import default_handlers


class Shown(RunState):
    """The state of a run, to show."""

    def __init__(self, title: str, max_rate: float | None) -> None:
        """Takes the name of the work, and the limit of ``--max-rate``."""
        super().__init__(max_rate)
        self.title = title
        self.hidden: Callable[[], AbstractContextManager[object]] = nullcontext
        """Hides the progress while somebody is asked."""

    def asked(self, excess: str) -> bool:
        """Asks on the terminal whether a run above a confirmation limit may start; without one the answer is no."""
        if sys.stdin is None or sys.stderr is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        with self.hidden(), default_handlers():
            return click.confirm(f"{excess}. Continue?", err=True)
