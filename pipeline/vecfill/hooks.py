"""Runs the user's commands when a target has ended: a notification, a dead man's switch.

A command is one of a shell, as in a crontab, since it mostly is a pipe. What a run found is never part of it: the
result comes as JSON on stdin, its main facts as environment variables.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from vecfill.config.hooks import HookOptions
from vecfill.termination import SIGNALLED

log = logging.getLogger(__name__)

SHELL = "/bin/sh"

GRACE_S = 2.0
"""Time between SIGTERM and SIGKILL to a command that took too long."""

FACTS = {
    "VECFILL_RUN_EXIT_CODE": "exit_code",
    "VECFILL_RUN_OUTCOME": "outcome",
    "VECFILL_RUN_TABLE": "table",
    "VECFILL_RUN_ID": "run_id",
    "VECFILL_RUN_ERROR": "error",
}
"""Environment variable of a command → key of the result. None is the variable of an option, see ``Option.variable``."""

MOST_CHARS = 4_096
"""Characters of a fact; the whole error is on stdin."""


def run_hooks(options: HookOptions, ended: Mapping[str, Any]) -> None:
    """Runs the commands; a fault of theirs is logged, and changes nothing.

    Args:
        options: the commands and their time limit.
        ended: the result as plain values, or ``table``, ``error`` and ``exit_code`` of a run without one.

    Raises:
        KeyboardInterrupt: a signal to this process; the command has been ended.
    """
    if options.on_end is not None:
        _run("--on-end", options.on_end, options.hook_timeout, ended)
    if options.on_fail is not None and ended["exit_code"]:
        _run("--on-fail", options.on_fail, options.hook_timeout, ended)


def _run(flag: str, command: str, timeout: float, ended: Mapping[str, Any]) -> None:
    started, output = time.monotonic(), _stderr()
    try:
        process = subprocess.Popen(  # noqa: S603 -- the user's own command
            [SHELL, "-c", command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, **_facts(ended)},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        _say(flag, f"cannot be run: {error}")
        return
    with process:
        try:
            process.communicate(json.dumps(ended).encode(), timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            _say(flag, f"took over {timeout:g} s and was killed: raise --hook-timeout, or let it do less")
            return
        except BaseException:
            _end(process)
            _say(flag, "was ended by a signal")
            raise
    if process.returncode:
        _say(flag, f"ended with {_ending(process.returncode)}", hook_exit_code=process.returncode)
    else:
        log.debug("the %s command took %.2f s", flag, time.monotonic() - started)


def _facts(ended: Mapping[str, Any]) -> dict[str, str]:
    outcome = "stopped" if ended["exit_code"] > SIGNALLED else "failed"  # a result says it itself
    found = ((name, {"outcome": outcome, **ended}.get(key)) for name, key in FACTS.items())
    return {name: str(value)[:MOST_CHARS].replace("\0", "") for name, value in found if value is not None}


def _stderr() -> int:
    """The file that gets the output of a command: stdout belongs to the result of the run."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return subprocess.DEVNULL


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and what it started; gives it a moment to clean up."""
    for number, seconds in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


def _ending(code: int) -> str:
    if code < 0:
        return f"signal {-code}"
    return f"exit code {code}" + {126: ", as it cannot be executed", 127: ", as it was not found"}.get(code, "")


def _say(flag: str, what: str, **fields: Any) -> None:
    """Logs a fault of a command, without the command: it may hold a secret."""
    log.error("the %s command %s; nothing else changes", flag, what, extra={"hook": flag, **fields})
