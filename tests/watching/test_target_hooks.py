"""The commands of a watch: at the end of a target, and while it is in trouble, not too often."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.tables import DOCS, make_docs, wait_until
from tests.watching.watched import watched, watching

from vecfill.config.hooks import HookOptions
from vecfill.errors import ConfigError
from vecfill.watching import target_hooks
from vecfill.watching.target_hooks import TargetHooks
from vecfill.watching.target_state import AWAY, WATCHING, TargetState


@pytest.fixture
def noting(tmp_path):
    """The options of commands that note their calls, and a function that returns the calls."""
    file = tmp_path / "noted"
    file.touch()
    options = HookOptions(on_end=f'echo "end $(cat)" >> {file}', on_fail=f'echo "fail $(cat)" >> {file}')

    def calls():
        lines = [line.split(" ", 1) for line in file.read_text().splitlines() if line.endswith("}")]
        return [(name, json.loads(text)) for name, text in lines]

    return options, calls


def test_failed_rows_and_a_target_that_is_away_are_told_once_an_hour(noting, monkeypatch):
    options, calls = noting
    state = TargetState("docs", "hash:8", phase=WATCHING)
    hooks = TargetHooks(options, state)
    hooks.look()
    state.rows["failed"] = 2
    hooks.look()
    wait_until(calls)
    state.rows["refused"] = 1
    hooks.look()
    (call,) = calls()
    assert call == (
        "fail",
        {"table": "docs", "rows": {"failed": 2}, "error": "2 rows failed; see the log", "exit_code": 3},
    )
    monkeypatch.setattr(target_hooks, "AGAIN_S", 0.0)
    hooks.look()
    wait_until(lambda: len(calls()) == 2)
    state.is_now(AWAY, "the server is away")
    hooks.look()  # a restart is no trouble
    monkeypatch.setattr(target_hooks, "UNREADY_S", -1.0)
    hooks.look()
    wait_until(lambda: len(calls()) == 3)
    assert [call["error"] for _, call in calls()[1:]] == ["1 row failed; see the log", "the server is away"]


def test_the_end_of_one_target_is_told_while_the_others_go_on(connect, database, noting, monkeypatch, caplog):
    options, calls = noting
    caplog.set_level("INFO", "vecfill")
    monkeypatch.setattr("vecfill.watching.target_loop.LASTING_S", 0.05)
    make_docs(connect, 1)
    connect.execute("CREATE TABLE spent (LIKE docs INCLUDING ALL)")
    both = [replace(watched(database, replace(DOCS, table=name)), hooks=options) for name in ("docs", "spent")]
    with watching(*both) as going:
        wait_until(lambda: "watching public.spent" in caplog.text)
        connect.execute("DROP TABLE spent")
        wait_until(lambda: len(calls()) == 2, 60)
        assert {(name, result["table"], result["exit_code"]) for name, result in calls()} == {
            *(("end", "spent", 2), ("fail", "spent", 2))
        }
        going.end()
    assert [(name, result["error"]) for name, result in calls()[2:]] == [("end", None)]


def test_the_end_of_a_watch_is_told_and_an_error_before_its_start(connect, database, noting):
    options, calls = noting
    make_docs(connect, 2)
    with watching(replace(watched(database), hooks=options)) as going:
        wait_until(lambda: not connect.execute("SELECT FROM docs WHERE embedding IS NULL").fetchone())
        going.end()
    ((name, result),) = calls()
    assert (name, result["table"], result["error"], result["exit_code"]) == ("end", "public.docs", None, 0)
    missing = replace(watched(database), hooks=options)
    missing = replace(missing, target=replace(missing.target, table="no_such_table"))
    with watching(missing) as going, pytest.raises(ConfigError):
        going.ended()
    assert [name for name, _ in calls()] == ["end", "end", "fail"]
    assert calls()[2][1]["exit_code"] == 2
