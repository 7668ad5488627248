"""How a run is judged: its outcome and exit code."""

from __future__ import annotations

import json

import pytest
from tests.backfill.test_tally import result, tallied

from vecfill.backfill.result import RunResult, judge
from vecfill.backfill.tally import Tally
from vecfill.blocks import OUTCOMES, UnwrittenRow
from vecfill.engine.signals import exit_code
from vecfill.read.survey import Coverage

CLEAN = tallied([result(updated=10)])
STALE = tallied([result(updated=8, stale=2)])
LOCKED = tallied([result(updated=8, locked=2)])
FAILED = tallied([result("7", updated=9, failed=1)])
REFUSED = tallied([result("7", updated=9, refused=1)])
THEIRS = tallied([result(filled=6, gone=4)])
DRY = {"stop_reason": None, "limit": None, "left": 0, "planned": 10}


@pytest.mark.parametrize(
    ("tally", "case", "outcome", "code"),
    [
        (CLEAN, {}, "complete", 0),
        (THEIRS, {}, "complete", 0),
        (CLEAN, {"left": 5}, "complete", 0),  # they arrived during the run
        (CLEAN, {"left": 5, "planned": 11}, "incomplete", 5),  # a row of the plan never came
        (CLEAN, {"limit": 10, "left": 90}, "limit", 0),
        (CLEAN, {"limit": 10}, "complete", 0),
        (CLEAN, {"limit": 99}, "complete", 0),
        (STALE, {"left": 2}, "incomplete", 5),
        (STALE, {"left": 0}, "complete", 0),
        (LOCKED, {"left": 2}, "incomplete", 5),
        (LOCKED, {"left": 2, "limit": 8}, "limit", 0),
        (FAILED, {}, "quarantined", 3),
        (REFUSED, {}, "quarantined", 3),
        (FAILED, {"left": 5}, "quarantined", 3),
        (FAILED, {"left": 5, "limit": 9}, "quarantined", 3),
        (FAILED, {"left": 5, "limit": 10, "beyond": 5}, "incomplete", 5),  # failures are not what a limit counts
        (FAILED, {"left": 5, "planned": 20}, "incomplete", 5),
        (CLEAN, {"stop_reason": "SIGTERM", "left": 5}, "stopped", 143),
        (CLEAN, {"stop_reason": "SIGINT", "left": 5}, "stopped", 130),
        (FAILED, {"stop_reason": "SIGINT"}, "stopped", 130),
        (CLEAN, {"stop_reason": "max-seconds", "left": 5}, "incomplete", 5),
        (CLEAN, {"stop_reason": "max-seconds"}, "complete", 0),
        (Tally(), {"stop_reason": "max-seconds", "left": 5}, "incomplete", 5),
        (Tally(), {"planned": 0}, "complete", 0),
    ],
)
def test_judgement(tally, case, outcome, code):
    assert judge(tally, **(DRY | case)) == (outcome, code)


def test_exit_codes_of_signals():
    assert [exit_code(reason) for reason in ("SIGINT", "SIGTERM", "max-seconds", None)] == [130, 143, None, None]


def test_a_result_is_plain_json():
    coverage = Coverage(total=3, filled=1, missing=1, empty=1)
    more = ("eligible", "embedded", "empty", "truncated", "windowed", "windows", "reused", "remaining", "sweeps")
    counts = dict.fromkeys((*OUTCOMES, *more, "bytes_sent", "exit_code"), 1)
    found = RunResult(
        run_id="1",
        table="public.docs",
        model="hash:8",
        engine=None,
        device=None,
        dtype=None,
        encoder=None,
        fast_tokens=1,
        fast_dropped=None,
        seconds=1.0,
        startup_seconds={},
        api=None,
        stage_seconds={"read": 0.5},
        rows_per_s=1.0,
        tokens_per_s=0.0,
        outcome="quarantined",
        before=coverage,
        after=coverage,
        quarantine=(UnwrittenRow("7", "failed", "row", "NaN"),),
        **counts,
    )
    plain = json.loads(json.dumps(found.as_dict()))
    counts = {"total": 3, "filled": 1, "missing": 1, "empty": 1, "changed": 0, "unknown": 0, "failed": 0, "unqueued": 0}
    assert plain["before"] == {**counts, "estimated": False, "percent": 33.33}
    assert plain["quarantine"] == [{"key": "7", "outcome": "failed", "error_class": "row", "error": "NaN"}]
