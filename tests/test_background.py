"""A thread beside a block: it has ended when the block has, and its error is not lost."""

from __future__ import annotations

import logging
import threading

import pytest

from vecfill.background import in_background
from vecfill.log_fields import fields_now, logged_with


def test_the_work_runs_beside_the_body_with_its_log_fields_and_has_ended_after_it():
    started, over, seen = threading.Event(), threading.Event(), []

    def work() -> None:
        started.set()
        over.wait()
        seen.append((threading.current_thread().name, dict(fields_now())))

    with logged_with(target="docs"), in_background("beside", work, over.set):
        assert started.wait(60)
        assert not seen
    assert seen == [("beside", {"target": "docs"})]


def test_an_error_of_the_work_is_logged_and_raised_after_the_body(caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(KeyError), in_background("b", lambda: {}["text"], list):
        pass
    assert caplog.messages == ["thread 'b' failed: KeyError('text')"]


def test_an_error_of_the_body_ends_the_work_and_goes_before_its_error(caplog):
    over = threading.Event()

    def work() -> None:
        over.wait()
        raise ZeroDivisionError

    with pytest.raises(KeyError), in_background("b", work, over.set):
        raise KeyError
    assert over.is_set()
    assert "ZeroDivisionError" in caplog.text
