"""The commands of ``--on-end`` and ``--on-fail`` for a target that is watched: at its end, and in trouble."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vecfill.config.hooks import HookOptions
from vecfill.hooks import run_hooks
from vecfill.log_fields import logged_with
from vecfill.watching.target_state import ENDED, TargetState
from vecfill.wording import count_of

UNREADY_S = 60.0
"""Seconds that a target is not ready, as for a restart of its server, before that is trouble."""

AGAIN_S = 3_600.0
"""Shortest time between two calls about one target that goes on."""

INCOMPLETE, FAILED_ROWS = 1, 3
"""Exit codes that a run would have ended with."""


class TargetHooks:
    """Calls the commands of one target.

    Attributes:
        told: the end of the target was told.
    """

    def __init__(self, options: HookOptions, state: TargetState) -> None:
        """Takes the commands, and what is known of the target."""
        self._options, self._state = options, state
        self._unready_at: float | None = None
        self._said_at: float | None = None
        self._bad_rows, self.told = 0, False

    def look(self) -> None:
        """Calls ``--on-fail``, in a thread, if rows failed or the target has not been ready for a minute."""
        state, now = self._state, time.monotonic()
        if self._options.on_fail is None or state.phase == ENDED:
            return
        self._unready_at = None if state.ready else self._unready_at or now
        unready = self._unready_at is not None and now - self._unready_at > UNREADY_S
        bad_rows = state.rows["failed"] + state.rows["refused"]
        if not (unready or bad_rows > self._bad_rows) or (self._said_at and now - self._said_at < AGAIN_S):
            return
        new, self._bad_rows, self._said_at = bad_rows - self._bad_rows, bad_rows, now
        failed = f"{count_of(new, 'row')} failed; see the log"
        error = state.reason or state.waiting() or "it is not ready" if unready else failed
        code = INCOMPLETE if unready else FAILED_ROWS
        trouble = {"table": state.target, "rows": dict(state.rows), "error": error, "exit_code": code}
        threading.Thread(target=self._run, args=(replace(self._options, on_end=None), trouble), daemon=True).start()

    def ended(self, result: Mapping[str, Any]) -> None:
        """Calls ``--on-end``, and ``--on-fail`` too if there is an error: a signal is the usual end of a watch."""
        self._run(self._options if result["error"] else replace(self._options, on_fail=None), result)

    def _run(self, options: HookOptions, result: Mapping[str, Any]) -> None:
        with logged_with(target=self._state.target):
            run_hooks(options, result)
