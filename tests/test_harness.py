"""The tests' own rules: a trace is put back and told, and a skip that could have run is a failure when asked."""

from __future__ import annotations

import logging
import os
import signal
import sys

import pytest
from tests import needs
from tests.needs import could_have_run, missing_tool
from tests.traces import loggers_restored, no_trace


def environment() -> None:
    os.environ["VECFILL_TRACE"] = "1"


def folder() -> None:
    os.chdir("/")


def level() -> None:
    logging.getLogger("psycopg").setLevel(logging.ERROR)


def handler() -> None:
    logging.getLogger("vecfill").addHandler(logging.NullHandler())


def on_a_signal() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)


def path() -> None:
    sys.path.append("/")


@pytest.mark.parametrize("change", [environment, folder, level, handler, on_a_signal, path])
def test_a_trace_is_put_back_and_told(change):
    with pytest.raises(pytest.fail.Exception, match="left behind: "), no_trace():
        change()
    with no_trace():
        pass


def test_a_body_that_sets_up_logging_leaves_nothing():
    with no_trace(), loggers_restored():
        level()
        handler()


def skipped(reason: str) -> pytest.TestReport:
    where = ("tests/test_some.py", 1, f"Skipped: {reason}")
    return pytest.TestReport("some", ("tests/test_some.py", 1, "some"), {}, "skipped", where, "call")


def reason_of(skip, *arguments, **options) -> str:
    with pytest.raises(pytest.skip.Exception) as caught:
        skip(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(("refused", "could"), [("", True), ("some-package\n", False)])
def test_a_tool_that_set_up_could_bring_is_no_reason_to_skip(tmp_path, monkeypatch, refused, could):
    monkeypatch.setattr(needs, "NOT_BROUGHT", tmp_path / "refused")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(needs, "_has_apt", lambda: True)
    (tmp_path / "refused").write_text(refused)
    report = skipped(reason_of(needs.needs_tool, "no-such-program", package="some-package"))
    assert missing_tool(report) == "no-such-program is not installed: apt-get install some-package"
    assert (could_have_run(report) is not None) is could


def test_another_machine_is_a_reason_to_skip():
    report = skipped(reason_of(needs.needs, "PostgreSQL 99"))
    assert (missing_tool(report), could_have_run(report)) == (None, None)
    assert could_have_run(skipped("not today")) == "not today (a test skips by tests/needs.py alone)"
    assert missing_tool(skipped(reason_of(needs.needs_tool, "no-such-program"))) == "no-such-program is not installed"
