"""The runs of the soak: the command line in a forked process, which is cheap to start and may be killed or stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.table import Key, Row

import vecfill.cli.run
import vecfill.cli.track
import vecfill.cli.untrack  # noqa: F401 -- what is imported here, no forked process imports again
from vecfill.cli import main

LEASE_S = 2


@dataclass
class Run:
    """A run, alive or ended.

    Attributes:
        pid: of its process.
        folder: has its stdout and stderr.
        flags: of the command line, beside those of the target.
        open: rows that were eligible before it began.
        code: exit code; negative for a signal, None while it is alive.
        excused: keys whose rows may stay open: they left the target for a while.
    """

    pid: int
    folder: Path
    flags: tuple[str, ...]
    open: tuple[Row, ...]
    code: int | None = None
    paused: bool = False
    excused: set[Key] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        """It takes all that is open."""
        return "--limit" not in self.flags and "missing" not in self.flags

    def alive(self) -> bool:
        """Whether it still runs, or is paused."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to its process alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Waits for its end, and returns the exit code."""
        if self.code is None:
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)
        return self.code

    @property
    def errors(self) -> str:
        """What it wrote to stderr."""
        return (self.folder / "err").read_text()

    @property
    def result(self) -> dict[str, Any]:
        """Its JSON object."""
        return json.loads((self.folder / "out").read_text() or "{}")


def start(folder: Path, arguments: tuple[str, ...]) -> int:
    """Forks a process that runs ``vecfill`` with these arguments, and returns its pid."""
    folder.mkdir()
    files = [(folder / name).open("w") for name in ("out", "err")]
    pid = os.fork()
    if pid:
        for file in files:
            file.close()
        return pid
    code = 1
    try:
        os.setsid()
        for number, file in enumerate(files, 1):
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = files  # a test's own are not these descriptors
        sys.argv = ["vecfill", *arguments]
        code = _main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main() -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
