"""A contender's process: what it tells, how it fails, and that it ends."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time

import pytest

from vecfill.bench.measure import Measured
from vecfill.bench.memory import held, watched
from vecfill.bench.watch import Spans, Watched
from vecfill.bench.worker import FreshWorker, Runner, Worker
from vecfill.errors import VecfillError


def test_memory_of_a_child_counts():
    script = (
        "import time; held = bytearray(100 << 20); held[::4096] = b'x' * len(held[::4096]); print(); time.sleep(60)"
    )
    with watched(os.getpid()) as peak:
        before = held(os.getpid())
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(0.5)
            child.kill()
    assert peak.bytes - before > 90 << 20
    assert held(2**22 + 1) == 0


class Failing(Runner):
    """Does what its name says, each in its own way."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def prepare(self):
        print("to stdout, which is not the report's")
        return {"pid": os.getpid()}

    def measure(self):
        if self.error is None:
            os._exit(9)
        raise self.error


class Counting(Runner):
    """Measures its own process."""

    def prepare(self):
        return {"pid": os.getpid()}

    def measure(self):
        return Measured(seconds=1.0, marks=((1.0, os.getpid()),), stages={})


def test_a_process_of_its_own_that_ends_with_its_block(capfd):
    with Worker("one", Failing(ValueError("x"))) as worker:
        worker.prepare()
        pid = worker.facts["pid"]
        assert pid != os.getpid()
        assert worker.started > 0
        assert worker.peak > 1 << 20
    assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110
    assert capfd.readouterr().out == ""


class LateStopped(Runner):
    """Gets SIGTERM while its interpreter ends, as from a benchmark that fails."""

    def prepare(self):
        atexit.register(os.kill, os.getpid(), signal.SIGTERM)
        return {}


def test_a_signal_while_it_ends_by_itself_leaves_no_traceback(capfd):
    with Worker("late", LateStopped()) as worker:
        worker.prepare()
    assert worker._process.exitcode == 0
    assert capfd.readouterr().err == ""


def test_a_fresh_worker_has_a_process_for_each_measurement():
    with FreshWorker("one", Counting()) as worker:
        worker.prepare()
        pids = [worker.measure().rows for _ in range(2)]
        assert worker.facts["pid"] == pids[-1] != pids[0]
        assert worker.started > 0
        assert worker.peak > 1 << 20
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []  # noqa: PTH110


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("too green"), "one: measure failed: ValueError: too green"),
        (VecfillError("ours"), "one: ours"),
        (ValueError("x " * 2_000 + "the cause"), "the cause$"),
        (None, "the process of one ended with code 9"),
    ],
)
def test_a_failure_comes_out_with_its_name(error, said):
    with Worker("one", Failing(error)) as worker:
        worker.prepare()
        with pytest.raises(VecfillError, match=said) as raised:
            worker.measure()
    assert len(str(raised.value)) < 700


def test_spans_are_those_since_the_restart():
    class Block:
        num_rows = 3

    spans = Spans()
    spans.call("read", lambda item: item, Block())
    spans.restart()
    spans.call("write", lambda item: item, Block())
    ((start, end, rows),) = spans.found()["write"]
    assert (list(spans.found()), rows) == (["write"], 3)
    assert 0 <= start <= end


def test_a_watched_stage_is_the_stage_but_for_its_calls():
    class Stage:
        stopped = False

        def __call__(self, block):
            return block

    class Block:
        num_rows = 2

    stage, spans = Stage(), Spans()
    watched = Watched("encode", stage, spans)
    watched.stopped = True
    assert (stage.stopped, watched.stopped) == (True, True)
    watched(Block())
    assert [rows for _, _, rows in spans.found()["encode"]] == [2]
    with pytest.raises(AttributeError):
        _ = watched.missing
