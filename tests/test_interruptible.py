"""Work that a stop may interrupt: its result, its error, and what becomes of it if nobody waits any more."""

from __future__ import annotations

import threading

import pytest
from tests.tables import wait_until

from vecfill.errors import StoppedError
from vecfill.interruptible import interruptible, is_work_left


def test_the_result_and_the_error_are_those_of_the_work():
    assert interruptible(lambda: 5, lambda: True) == 5
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, lambda: False)


def test_a_stop_leaves_the_work_and_its_late_result_is_discarded():
    go_on, discarded, left = threading.Event(), [], []
    with pytest.raises(StoppedError):
        interruptible(lambda: go_on.wait(60), lambda: True, discard=discarded.append, interrupt=left.append)
    assert (discarded, is_work_left()) == ([], True)
    go_on.set()
    left[0].join(60)
    assert (discarded, is_work_left()) == ([True], False)


def test_an_error_that_comes_too_late_is_nobodys():
    go_on = threading.Event()

    def fail() -> None:
        go_on.wait(60)
        raise ZeroDivisionError

    with pytest.raises(StoppedError):
        interruptible(fail, lambda: True)
    go_on.set()
    wait_until(lambda: not is_work_left())
