"""A contender in a process of its own: what it loads, sets and holds is nobody else's, and its start can be timed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import time
from multiprocessing.connection import Connection as Pipe
from typing import Any, Protocol

from vecfill.bench.measure import Measured
from vecfill.bench.memory import watched
from vecfill.errors import VecfillError

_END_S = 15.0
"""How long a process may take to end by itself: Ray's needs some seconds."""

_MOST_CHARACTERS = 500
"""Of an error that is not ours."""


class Runner(Protocol):
    """A contender as it travels to its process."""

    def prepare(self) -> dict[str, Any]:
        """Loads what is needed and warms it up; says what turned out."""

    def measure(self) -> Measured:
        """Does the work once, on a table that was just refilled."""

    def close(self) -> None:
        """Gives back connections."""


class Worker:
    """The process, from this side. To be used in a ``with``.

    Attributes:
        facts: what ``prepare`` told.
        started: seconds from the process's start until it was loaded (``loaded`` of the facts, before any warm-up).
        peak: the most bytes that its process tree held.
    """

    def __init__(self, name: str, runner: Runner) -> None:
        self.name, self._runner = name, runner
        self.facts: dict[str, Any] = {}
        self.started = 0.0
        self.peak = 0

    def __enter__(self) -> Worker:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._born = time.monotonic()
        self._process = context.Process(target=_serve, args=(theirs, self._runner), name=self.name, daemon=True)
        self._process.start()
        theirs.close()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        if kind is not None:
            self._process.terminate()
        self._process.join(_END_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def prepare(self) -> None:
        """Waits until the contender is ready.

        Raises:
            VecfillError: it failed.
        """
        self.facts = self._ask("prepare")
        self.started = self.facts.get("loaded", time.monotonic()) - self._born  # one clock for all of the machine

    def measure(self) -> Measured:
        """Has it measured once.

        Raises:
            VecfillError: it failed.
        """
        found: Measured = self._ask("measure")
        return found

    def _ask(self, what: str) -> Any:
        with watched(self._process.pid or 0) as peak:
            try:
                self._pipe.send(what)
                answer = self._pipe.recv()
            except (EOFError, OSError) as error:
                self._process.join(1)
                raise VecfillError(
                    f"the process of {self.name} ended with code {self._process.exitcode} while it was to {what}: "
                    "memory may have run out; try with fewer --rows"
                ) from error
        self.peak = max(self.peak, peak.bytes)
        if isinstance(answer, VecfillError):
            raise type(answer)(f"{self.name}: {answer}") from answer
        return answer


def _serve(pipe: Pipe, runner: Runner) -> None:
    """The other side: answers until it is told to end, or nobody asks any more.

    A Ctrl-C is for the other side to handle. What libraries print to stdout goes to stderr: stdout is the report's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # libraries tidy up at a normal exit
    os.dup2(2, 1)
    try:
        while what := pipe.recv():
            pipe.send(_answer(runner, what))
    except (EOFError, OSError):
        pass
    finally:
        runner.close()


def _answer(runner: Runner, what: str) -> Any:
    try:
        found = runner.prepare() if what == "prepare" else runner.measure()
        pickle.dumps(found)
    except Exception as error:
        ours = isinstance(error, VecfillError) and _travels(error)
        return error if ours else VecfillError(f"{what} failed: {type(error).__name__}: {_short(str(error))}")
    return found


def _travels(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    except Exception:
        return False
    return True


def _short(message: str) -> str:
    """On one line; of a long one (Ray puts a whole traceback in) the last part, where the cause is."""
    line = " ".join(message.split())
    return line if len(line) <= _MOST_CHARACTERS else "…" + line[-_MOST_CHARACTERS:]
