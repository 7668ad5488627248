"""A contender's process: what it tells, how it fails, and that it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfill.bench.memory import family, held, watched
from vecfill.bench.watch import Spans
from vecfill.bench.worker import Worker
from vecfill.errors import VecfillError


def test_the_family_is_all_that_descends():
    assert family(2, {2: 1, 3: 2, 4: 3, 5: 1, 6: 5}) == {2, 3, 4}
    assert family(9, {}) == {9}


@given(st.dictionaries(st.integers(1, 30), st.integers(1, 30)), st.integers(1, 30))
def test_a_family_ends_whatever_the_tree(parents, pid):
    found = family(pid, parents)
    assert pid in found
    assert all(parents[child] in found for child in found - {pid})


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


class Failing:
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

    def close(self):
        pass


def test_a_process_of_its_own_that_ends_with_its_block(capfd):
    with Worker("one", Failing(ValueError("x"))) as worker:
        worker.prepare()
        pid = worker.facts["pid"]
        assert pid != os.getpid()
        assert worker.started > 0
        assert worker.peak > 1 << 20
    assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110
    assert capfd.readouterr().out == ""


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
