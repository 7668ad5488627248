"""The run's account adds up."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vecfill.backfill.tally
from vecfill.backfill.tally import FINAL, Tally
from vecfill.blocks import OUTCOMES, RESULT_SCHEMA, UnwrittenRow
from vecfill.encode.encoding import TokensBy
from vecfill.errors import EncodeError

ZERO = {
    "tokens": 0,
    "truncated": 0,
    "tokens_by": [],
    "windowed": 0,
    "windows": 0,
    "reused": 0,
    "bytes": 0,
    "device": "cpu",
    "dtype": "float32",
    "encoder": "native",
    "read_s": 0.0,
    "load_s": 0.0,
    "encode_s": 0.0,
    "write_s": 0.0,
    "unwritten": [],
}


def result(*keys: str, error: str | None = None, **numbers) -> pa.Table:
    """A WriteResult of one batch; ``keys`` names its failed and refused rows, in that order."""
    outcomes = ["failed"] * numbers.get("failed", 0) + ["refused"] * numbers.get("refused", 0)
    rows = [
        {"key": key, "outcome": outcome, "error_class": "row", "error": error}
        for key, outcome in zip(keys, outcomes, strict=True)
    ]
    return pa.Table.from_pylist([dict.fromkeys(OUTCOMES, 0) | ZERO | {"unwritten": rows} | numbers], RESULT_SCHEMA)


def tallied(*sweeps: list[pa.Table]) -> Tally:
    tally = Tally()
    for results in sweeps:
        tally.begin_sweep()
        for one in results:
            tally.add(one)
    return tally


def test_nothing():
    tally = Tally()
    assert (tally.rows, tally.total("locked"), tally.total("updated")) == (0, 0, 0)


@given(
    st.lists(
        st.lists(
            st.fixed_dictionaries(
                {name: st.integers(0, 9) for name in ("updated", "stale", "filled", "gone", "locked")}
            )
        )
    )
)
def test_final_outcomes_are_summed_over_all_sweeps_and_locks_of_the_last(sweeps):
    tally = tallied(*([result(**batch) for batch in batches] for batches in sweeps))
    for outcome in (*FINAL, "stale"):
        assert tally.total(outcome) == sum(batch[outcome] for batches in sweeps for batch in batches)
    assert (
        tally.total("locked") == sum(batch["locked"] for batch in sweeps[-1]) if sweeps else tally.total("locked") == 0
    )
    assert tally.rows == sum(tally.total(outcome) for outcome in FINAL)
    assert [sweep.rows for sweep in tally.sweeps] == [
        sum(sum(batch.values()) for batch in batches) for batches in sweeps
    ]


def test_add_says_how_many_rows_came():
    tally = Tally()
    sweep = tally.begin_sweep()
    assert tally.add(result(updated=3, stale=1)) == 4
    assert tally.add(pa.concat_tables([result(updated=2), result(gone=1)])) == 3
    assert (sweep.rows, sweep.unfinished) == (7, 1)


def test_a_row_that_fails_in_each_sweep_is_one_row():
    failing = result("7", "8", failed=1, refused=1, updated=5)
    tally = tallied([failing], [result("7", "8", failed=1, refused=1)])
    assert (tally.total("failed"), tally.total("refused"), tally.rows) == (1, 1, 7)
    assert list(tally.quarantine) == ["7", "8"]


def test_a_row_that_failed_and_was_then_refused_counts_once():
    tally = tallied([result("7", failed=1)], [result("7", refused=1, error="closed")])
    assert (tally.total("failed"), tally.total("refused")) == (0, 1)
    assert tally.quarantine["7"] == UnwrittenRow("7", "refused", "row", "closed")


def test_locked_rows_are_not_in_quarantine():
    table = result(locked=1, unwritten=[{"key": "1", "outcome": "locked", "error_class": None, "error": None}])
    assert tallied([table]).quarantine == {}


def test_numbers_are_summed():
    numbers = {
        "tokens": 10,
        "truncated": 1,
        "tokens_by": [0, 7, 0, 1],
        "windowed": 2,
        "windows": 5,
        "reused": 3,
        "bytes": 100,
        "read_s": 0.5,
        "encode_s": 2.0,
        "write_s": 0.25,
    }
    tally = tallied([result(updated=1, **numbers)], [result(updated=1, **numbers)])
    assert (tally.tokens, tally.truncated, tally.reused, tally.bytes) == (20, 2, 6, 200)
    assert (tally.windowed, tally.windows) == (4, 10)
    assert (tally.tokens_by[TokensBy.FAST], tally.tokens_by[TokensBy.CAUGHT]) == (14, 2)
    assert (tally.devices, tally.dtypes, tally.encoders) == ({"cpu"}, {"float32"}, {"native"})
    assert tally.seconds == {"read": 1.0, "encode": 4.0, "write": 0.5}


def test_more_failures_than_a_driver_can_hold_share_a_cause(monkeypatch):
    monkeypatch.setattr(vecfill.backfill.tally, "MAX_QUARANTINED", 3)
    tally = Tally()
    tally.begin_sweep()
    tally.add(result("1", "2", "3", failed=3))
    with pytest.raises(EncodeError, match=r"more than 3 rows failed, the last \(4\) with: NaN"):
        tally.add(result("4", failed=1, error="NaN"))
