"""The size of a batch follows the clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vecfill.write.batch_size import (
    AIM_LOCK_S,
    MAX_ROWS,
    MIN_ROWS,
    START_ROWS,
    BatchSize,
    even_batch_rows,
    max_rows_in_memory,
)


def settled(rows_per_s: float, batches: int = 60) -> BatchSize:
    """After so many full batches against a server of constant speed."""
    pace = BatchSize()
    for _ in range(batches):
        pace.adjust(pace.rows, pace.rows / rows_per_s)
    return pace


def test_it_starts_at_the_measured_best():
    assert BatchSize().rows == START_ROWS


@given(st.floats(1, 10**6))
def test_batches_come_to_hold_their_locks_half_a_second_at_most(rows_per_s):
    rows = settled(rows_per_s).rows
    assert MIN_ROWS <= rows <= MAX_ROWS
    assert rows / rows_per_s <= AIM_LOCK_S * 1.01 or rows == MIN_ROWS
    assert rows / rows_per_s >= AIM_LOCK_S * 0.49 or rows == MAX_ROWS


def test_one_slow_batch_is_enough_to_shrink():
    pace = BatchSize()
    pace.adjust(2_000, 4.3)  # with an HNSW index
    assert pace.rows == 232


def test_a_small_quick_batch_proves_nothing():
    pace = BatchSize()
    pace.adjust(17, 0.001)
    assert pace.rows == START_ROWS


def test_growth_is_by_a_quarter_up_to_the_most():
    pace = BatchSize()
    pace.adjust(2_000, 0.01)
    assert pace.rows == 2_500
    assert settled(10**9).rows == MAX_ROWS


def test_half_of_a_full_batch_tells_what_a_full_one_would_take():
    quick, slow, small = BatchSize(), BatchSize(), BatchSize()
    quick.adjust(1_000, 0.12)
    slow.adjust(1_000, 0.13)
    small.adjust(999, 0.01)
    assert (quick.rows, slow.rows, small.rows) == (2_500, 2_000, 2_000)


@given(st.integers(1, 50_000), st.integers(1, 10_000))
def test_a_block_is_cut_in_as_few_batches_as_can_be_all_about_as_large(rows, most):
    parts, left = [], rows
    while left:
        parts.append(even_batch_rows(left, most))
        left -= parts[-1]
    assert len(parts) == -(-rows // most)
    assert max(parts) <= most
    assert max(parts) - min(parts) <= 1


def test_a_stage_stays_in_the_servers_memory():
    assert max_rows_in_memory(384, "vector", arrays=False) == 4_587
    assert max_rows_in_memory(384, "halfvec", arrays=False) == 8_822
    assert max_rows_in_memory(384, "vector", arrays=True) == 1_966
    assert max_rows_in_memory(16_000, "vector", arrays=True) == 49
    assert max_rows_in_memory(10**7, "vector", arrays=True) == MIN_ROWS


def test_a_time_out_halves():
    pace = BatchSize()
    pace.halve(1_000)
    assert pace.rows == 500
    pace.halve(5)
    assert pace.rows == MIN_ROWS
