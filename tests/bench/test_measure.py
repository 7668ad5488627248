"""Rates and ratios: what holds whatever the clock says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfill.bench.measure import (
    Measured,
    matrix_share,
    median,
    ratio,
    rotated,
    sorted_padding,
    start_up,
    totals,
    warm_rate,
    whole_rate,
)
from vecfill.bench.ours import evenly
from vecfill.read.units import Bucket

rates = st.one_of(st.none(), st.floats(1e-3, 1e6))
blocks = st.lists(st.integers(1, 5_000), min_size=2, max_size=20)


def steady(rows: list[int], rate: float, late: float) -> Measured:
    """Blocks that come at a constant rate, ``late`` seconds after the start."""
    marks = tuple((late + done / rate, count) for done, count in zip(np.cumsum(rows).tolist(), rows, strict=True))
    return Measured(seconds=marks[-1][0], marks=marks, stages={})


@given(blocks, st.floats(1.0, 1e5), st.floats(0.0, 100.0))
def test_the_warm_rate_does_not_know_of_the_start(rows, rate, late):
    measured = steady(rows, rate, late)
    assert measured.rows == sum(rows)
    assert warm_rate(measured.marks) == pytest.approx(rate, rel=1e-3)
    assert start_up(measured) == pytest.approx(late, abs=1e-3 * (1 + late + measured.seconds))
    assert whole_rate(measured) <= warm_rate(measured.marks) * (1 + 1e-6)


@pytest.mark.parametrize("marks", [(), ((1.0, 5),), ((1.0, 5), (1.0, 5))])
def test_less_than_two_blocks_tell_no_rate(marks):
    assert warm_rate(marks) is None
    assert start_up(Measured(seconds=1.0, marks=marks, stages={})) is None


@given(st.lists(st.tuples(rates, rates), max_size=9))
def test_a_ratio_lies_between_its_least_and_greatest_and_turns_around(pairs):
    ours, theirs = [one for one, _ in pairs], [other for _, other in pairs]
    found, turned = ratio(ours, theirs), ratio(theirs, ours)
    assert (found is None) == (turned is None) == (not any(one and other for one, other in pairs))
    if found:
        assert found.least <= found.median <= found.greatest
        assert turned.greatest == pytest.approx(1 / found.least)


def test_a_ratio_is_of_the_rounds_not_of_the_medians():
    """A machine that slows down by ten in the middle changes every rate and no ratio."""
    assert ratio([20.0, 2.0, 2.0], [10.0, 1.0, 1.0]).least == ratio([20.0, 2.0, 2.0], [10.0, 1.0, 1.0]).greatest == 2
    assert ratio([], []) is None


@given(st.lists(st.text(), min_size=1, unique=True), st.integers(0, 50))
def test_everyone_takes_part_in_a_round_and_is_first_in_turn(names, turn):
    order = rotated(names, turn)
    assert sorted(order) == sorted(names)
    assert order[0] == names[turn % len(names)]
    assert rotated([], turn) == []


texts = st.lists(st.tuples(st.integers(1, 512), st.integers(1, 3_000)), min_size=1, max_size=200)


@given(texts, st.integers(1, 300))
def test_padding_is_a_share_and_none_without_neighbours(lengths, batch):
    tokens = np.array([one for one, _ in lengths], np.int32)
    sizes = np.array([size for _, size in lengths], np.int64)
    assert 0.0 <= sorted_padding(tokens, sizes, batch) < 1.0
    assert sorted_padding(tokens, sizes, 1) == 0.0
    assert sorted_padding(np.full_like(tokens, 7), sizes, batch) == 0.0


def test_padding_counts_the_places_that_are_computed():
    tokens, sizes = np.array([2, 10, 4, 10], np.int32), np.array([2, 10, 4, 10], np.int64)
    assert sorted_padding(tokens, sizes, 2) == pytest.approx(1 - 26 / 28)
    assert sorted_padding(tokens, sizes, 4) == pytest.approx(1 - 26 / 40)
    assert sorted_padding(np.zeros(0, np.int32), np.zeros(0, np.int64), 4) == 0.0


def test_share_of_the_matrix_rate():
    assert matrix_share(10_000_000, 5_000.0, 200e9) == pytest.approx(0.5)


buckets = st.lists(st.integers(1, 300), min_size=1, max_size=60).map(
    lambda rows: [
        Bucket(leaf=0, first_page=4 * number, pages=4, rows=one, bytes=one) for number, one in enumerate(rows)
    ]
)


@given(buckets, st.integers(1, 8))
def test_even_ranges_hold_every_row_once(buckets, blocks):
    ranges = evenly(buckets, blocks)
    assert 1 <= len(ranges) <= blocks
    assert sum(one.rows for one in ranges) == sum(bucket.rows for bucket in buckets)
    assert [one.end_page for one in ranges] == [*(one.first_page for one in ranges[1:]), None]
    assert ranges[0].first_page == 0
    widest = max(bucket.rows for bucket in buckets)
    assert max(one.rows for one in ranges) <= sum(bucket.rows for bucket in buckets) / blocks + 2 * widest


def test_medians():
    assert median([3.0, None, 1.0, 2.0]) == 2.0
    assert median([None]) is None
    assert totals([{"read": 1.0}, {"read": 3.0, "write": 2.0}]) == {"read": 2.0, "write": 1.0}


def test_nothing_to_read_is_no_range():
    assert evenly([], 4) == []
