"""The size of a batch follows the clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vecfill.write.pace import AIM_S, MAX_ROWS, MIN_ROWS, START_ROWS, Pace


def settled(rows_per_s: float, batches: int = 60) -> Pace:
    """After so many full batches against a server of constant speed."""
    pace = Pace()
    for _ in range(batches):
        pace.took(pace.rows, pace.rows / rows_per_s)
    return pace


def test_it_starts_at_the_measured_best():
    assert Pace().rows == START_ROWS


@given(st.floats(1, 10**6))
def test_batches_come_to_hold_their_locks_half_a_second_at_most(rows_per_s):
    rows = settled(rows_per_s).rows
    assert MIN_ROWS <= rows <= MAX_ROWS
    assert rows / rows_per_s <= AIM_S * 1.01 or rows == MIN_ROWS
    assert rows / rows_per_s >= AIM_S * 0.49 or rows == MAX_ROWS


def test_one_slow_batch_is_enough_to_shrink():
    pace = Pace()
    pace.took(2_000, 4.3)  # with an HNSW index
    assert pace.rows == 232


def test_a_small_quick_batch_proves_nothing():
    pace = Pace()
    pace.took(17, 0.001)
    assert pace.rows == START_ROWS


def test_growth_is_by_a_quarter_up_to_the_most():
    pace = Pace()
    pace.took(2_000, 0.01)
    assert pace.rows == 2_500
    assert settled(10**9).rows == MAX_ROWS


def test_a_time_out_halves():
    pace = Pace()
    pace.halve(1_000)
    assert pace.rows == 500
    pace.halve(5)
    assert pace.rows == MIN_ROWS
