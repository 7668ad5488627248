"""Page ranges cover every bucket that holds rows, once, in order, and keep to the limit."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfill.read.units import (
    BUCKETS,
    MAX_BLOCK_BYTES,
    MAX_BLOCK_ROWS,
    MIN_BLOCK_ROWS,
    Bucket,
    PageRange,
    block_rows,
    bucket_pages,
    plan_units,
)

sizes = st.integers(1, 300) | st.integers(1, 200_000)


@st.composite
def surveys(draw) -> list[Bucket]:
    """Buckets as a survey finds them: some of each leaf's, in no order, each with a row or more."""
    found = []
    for leaf in range(draw(st.integers(0, 4))):
        pages = draw(st.integers(1, 50))
        for number in draw(st.sets(st.integers(0, 40), max_size=15)):
            rows = draw(sizes)
            size = rows * draw(st.integers(1, 5_000))
            found.append(Bucket(leaf=leaf, first_page=number * pages, pages=pages, rows=rows, bytes=size))
    return draw(st.permutations(found))


def span(one: PageRange) -> tuple[int, float]:
    return one.first_page, float("inf") if one.end_page is None else one.end_page


@given(surveys())
def test_ranges_are_ordered_disjoint_and_cover_every_bucket(buckets):
    ranges = plan_units(buckets)
    assert ranges == sorted(ranges, key=lambda one: (one.leaf, one.first_page))
    for one, following in itertools.pairwise(ranges):
        assert one.leaf < following.leaf or span(one)[1] <= following.first_page
    for bucket in buckets:
        pages = range(bucket.first_page, bucket.first_page + bucket.pages)
        spans = [span(one) for one in ranges if one.leaf == bucket.leaf]
        assert all(sum(start <= page < end for start, end in spans) == 1 for page in pages)
    assert sum(one.rows for one in ranges) == sum(bucket.rows for bucket in buckets)
    for one in ranges:
        if one.end_page is None:
            assert one.limit == one.rows + MAX_BLOCK_ROWS
        else:
            assert one.limit is None
            assert one.end_page > one.first_page


@given(surveys())
def test_only_the_last_range_of_a_leaf_is_open(buckets):
    ranges = plan_units(buckets)
    for leaf in {bucket.leaf for bucket in buckets}:
        ends = [one.end_page for one in ranges if one.leaf == leaf]
        assert ends[-1] is None
        assert None not in ends[:-1]


@given(surveys())
def test_blocks_hold_about_the_rows_aimed_at(buckets):
    """At most half as many again, but for what one page holds."""
    aim = block_rows(sum(bucket.rows for bucket in buckets))
    dense = max((bucket.rows / bucket.pages for bucket in buckets), default=0)
    assert all(one.rows <= max(1.5 * aim, dense) + 1 for one in plan_units(buckets))


@given(surveys(), st.integers(1, 1_000_000))
def test_a_limit_is_kept_exactly(buckets, limit):
    eligible = sum(bucket.rows for bucket in buckets)
    ranges = plan_units(buckets, limit)
    assert sum(one.limit for one in ranges) == sum(one.rows for one in ranges) == min(limit, eligible)
    assert all(one.limit > 0 for one in ranges)


@pytest.mark.parametrize(
    ("eligible", "rows"),
    [(0, MIN_BLOCK_ROWS), (1_000, MIN_BLOCK_ROWS), (32_000, 4_000), (10**6, MAX_BLOCK_ROWS), (10**9, MAX_BLOCK_ROWS)],
)
def test_rows_of_a_block(eligible, rows):
    assert block_rows(eligible) == rows


@given(st.integers(0, 2**32 - 2))
def test_a_leaf_of_any_size_has_few_buckets(pages):
    assert pages / bucket_pages(pages) <= BUCKETS


def test_nothing_to_read_is_no_range():
    assert plan_units([]) == []


def test_a_small_table_is_one_open_range():
    bucket = Bucket(leaf=0, first_page=4, pages=4, rows=3, bytes=30)
    assert plan_units([bucket]) == [PageRange(leaf=0, first_page=4, end_page=None, rows=3, limit=3 + MAX_BLOCK_ROWS)]


def test_texts_too_big_for_a_block_are_cut_by_bytes():
    bucket = Bucket(leaf=0, first_page=0, pages=100, rows=100, bytes=100 * MAX_BLOCK_BYTES)
    assert [one.rows for one in plan_units([bucket])] == [1] * 100


def test_big_texts_are_not_joined_beyond_the_bytes_of_a_block():
    size = MAX_BLOCK_BYTES * 2 // 5
    buckets = [Bucket(leaf=0, first_page=page, pages=1, rows=1, bytes=size) for page in range(7)]
    assert [one.rows for one in plan_units(buckets)] == [2, 2, 2, 1]


def test_a_bucket_that_starts_or_ends_within_a_page_stays_whole():
    halves = [
        Bucket(leaf=0, first_page=0, pages=1, rows=200, bytes=MAX_BLOCK_BYTES - 1, end_offset=120),
        Bucket(leaf=0, first_page=1, pages=3, rows=200, bytes=3 * MAX_BLOCK_BYTES, first_offset=120),
    ]
    assert plan_units(halves) == [
        PageRange(leaf=0, first_page=0, end_page=1, end_offset=120, rows=200),
        PageRange(leaf=0, first_page=1, first_offset=120, end_page=None, rows=200, limit=200 + MAX_BLOCK_ROWS),
    ]


def test_listed_rows_are_read_by_their_places_alone():
    rows = [Bucket.of_row(0, (page, 7), 10) for page in (900, 3)]
    near = Bucket(leaf=1, first_page=0, pages=4, rows=5, bytes=50)
    listed, scanned = plan_units([*rows, near])
    assert (listed.tids, listed.rows, listed.leaf) == (((3, 7), (900, 7)), 2, 0)
    assert (scanned.leaf, scanned.rows, scanned.end_page) == (1, 5, None)
