"""A contender in a process of its own, so that nothing it loads or sets reaches another, and its start can be timed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import time
from multiprocessing.connection import Connection as Pipe
from typing import Any

from vecfill.bench.measure import Measured
from vecfill.bench.memory import watched
from vecfill.errors import VecfillError
from vecfill.termination import SIGNALLED, keep_code

_END_S = 15.0
"""Seconds that a process gets to end by itself: Ray needs some."""

_MOST_CHARACTERS = 500
"""Of the message of an error that is not ours."""


class Runner:
    """A contender as it travels to its process.

    Attributes:
        writes: it fills the scratch table, which is refilled before each measurement.
        whole: its rate counts from start to end, since no start-up is in it; else from the first block's end.
        ray: it starts a cluster for each measurement.
    """

    writes = True
    whole = False
    ray = False

    def prepare(self) -> dict[str, Any]:
        """Loads what it needs and warms up; returns facts for the report."""
        return {}

    def measure(self) -> Measured:
        """Does the work once, on a table that was just refilled."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes connections."""


class Worker:
    """The process, seen from the benchmark. Use it in a ``with``.

    Attributes:
        facts: what ``prepare`` returned.
        started: seconds from the process's start until it was loaded (``loaded`` of the facts, before any warm-up).
        peak: the most bytes that its process tree held.
    """

    def __init__(self, name: str, runner: Runner) -> None:
        self.name, self.runner = name, runner
        self.facts: dict[str, Any] = {}
        self.started = 0.0
        self.peak = 0

    def __enter__(self) -> Worker:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._born = time.monotonic()
        self._process = context.Process(target=_serve, args=(theirs, self.runner), name=self.name, daemon=True)
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
        """Measures the contender once.

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
                    f"the process of {self.name} ended with code {self._process.exitcode} during {what}: "
                    "memory may have run out; try with fewer --rows"
                ) from error
        self.peak = max(self.peak, peak.bytes)
        if isinstance(answer, VecfillError):
            raise type(answer)(f"{self.name}: {answer}") from answer
        return answer


class FreshWorker(Worker):
    """A process for each measurement: an idle Ray cluster would disturb the other contenders."""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Every process ended with its measurement."""

    def prepare(self) -> None:
        """Does nothing: the start belongs to each measurement."""

    def measure(self) -> Measured:
        """See ``Worker``."""
        with Worker(self.name, self.runner) as worker:
            worker.prepare()
            found = worker.measure()
        self.facts, self.started, self.peak = worker.facts, worker.started, max(self.peak, worker.peak)
        return found


def _serve(pipe: Pipe, runner: Runner) -> None:
    """The process itself: answers until it is told to end, or the benchmark is gone.

    The benchmark handles Ctrl-C. What libraries print to stdout goes to stderr, since stdout carries the report.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(SIGNALLED + number))  # libraries tidy up at a normal exit
    os.dup2(2, 1)
    try:
        while what := pipe.recv():
            pipe.send(_answer(runner, what))
    except (EOFError, OSError):
        pass
    finally:
        runner.close()
    keep_code(0)  # a benchmark that fails also terminates a process that has begun to end by itself


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
    """The message on one line; of a long one (Ray includes a whole traceback) the last part, which has the cause."""
    line = " ".join(message.split())
    return line if len(line) <= _MOST_CHARACTERS else "…" + line[-_MOST_CHARACTERS:]
