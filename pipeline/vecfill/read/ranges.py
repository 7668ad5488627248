"""Page ranges: how the eligible rows of a table are cut into blocks. Pure; the counts come from ``survey``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 512, 2_048
"""A block of 512 rows still sorts well by length; one of 2,048 is 14 s of work for two CPU cores (150 rows/s), which is
as long as a stop should take. Ray carries about 31 blocks/s on two cores."""

BLOCKS_PER_RUN = 32
"""Enough blocks that reading, encoding and writing overlap and that progress moves, also in a small table."""

MAX_BLOCK_BYTES = 32 << 20
"""Bytes of text in a block: what a reader holds at once."""

BUCKETS = 8_192
"""Most buckets that a survey counts a leaf in: bounds the driver's memory."""

MIN_BUCKET_PAGES = 4
"""128 KiB of heap: some hundred rows of a few columns."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Eligible rows, and bytes of their texts, in one run of heap pages of a leaf."""

    leaf: int
    first_page: int
    pages: int
    rows: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class PageRange:
    """The pages ``[first_page, end_page)`` of a leaf; ``end_page`` None leaves it open.

    ``rows`` is what the survey counted there, ``limit`` the most that may be read (None: all).
    """

    leaf: int
    first_page: int
    end_page: int | None
    rows: int
    limit: int | None = None


def bucket_pages(pages: int) -> int:
    """Heap pages in a bucket of a leaf of ``pages`` pages."""
    return max(MIN_BUCKET_PAGES, -(-pages // BUCKETS))


def block_rows(eligible: int) -> int:
    """Rows that a block aims at, for a run of ``eligible`` rows."""
    return min(MAX_BLOCK_ROWS, max(MIN_BLOCK_ROWS, eligible // BLOCKS_PER_RUN))


def plan_ranges(buckets: Sequence[Bucket], limit: int | None = None) -> list[PageRange]:
    """Cuts the surveyed rows into ranges of about ``block_rows`` rows and at most ``MAX_BLOCK_BYTES`` of text.

    Pages between two ranges hold no eligible row and are not read. Each leaf's last range stays open, for rows that
    arrive or move while we read. With ``limit`` the ranges end where that many rows are reached.
    """
    eligible = sum(bucket.rows for bucket in buckets)
    aim = block_rows(min(eligible, limit) if limit is not None else eligible)
    ordered = sorted(buckets, key=lambda bucket: (bucket.leaf, bucket.first_page))
    ranges = list(_open_ends(_merge(_split(ordered, aim), aim)))
    return ranges if limit is None else list(_limited(ranges, limit))


def _split(buckets: Iterable[Bucket], aim: int) -> Iterator[Bucket]:
    """Cuts a bucket that holds several blocks into even runs of pages."""
    for bucket in buckets:
        parts = min(bucket.pages, max(1, round(bucket.rows / aim), -(-bucket.bytes // MAX_BLOCK_BYTES)))
        edges = [bucket.pages * part // parts for part in range(parts + 1)]
        for part, (start, end) in enumerate(itertools.pairwise(edges)):
            rows = bucket.rows * (part + 1) // parts - bucket.rows * part // parts
            size = bucket.bytes * (part + 1) // parts - bucket.bytes * part // parts
            yield replace(bucket, first_page=bucket.first_page + start, pages=end - start, rows=rows, bytes=size)


def _merge(buckets: Iterable[Bucket], aim: int) -> Iterator[PageRange]:
    """Joins neighbours until a block is full."""
    held: list[Bucket] = []
    for bucket in buckets:
        if held and not _fits(held, bucket, aim):
            yield _range(held)
            held = []
        held.append(bucket)
    if held:
        yield _range(held)


def _fits(held: Sequence[Bucket], bucket: Bucket, aim: int) -> bool:
    rows = sum(one.rows for one in held) + bucket.rows
    size = sum(one.bytes for one in held) + bucket.bytes
    return bucket.leaf == held[0].leaf and rows <= aim * 1.25 and size <= MAX_BLOCK_BYTES


def _range(held: Sequence[Bucket]) -> PageRange:
    end = held[-1].first_page + held[-1].pages
    rows = sum(bucket.rows for bucket in held)
    return PageRange(leaf=held[0].leaf, first_page=held[0].first_page, end_page=end, rows=rows)


def _open_ends(ranges: Iterable[PageRange]) -> Iterator[PageRange]:
    """Leaves each leaf's last range open at its end."""
    previous: PageRange | None = None
    for current in ranges:
        if previous is not None:
            yield replace(previous, end_page=None) if previous.leaf != current.leaf else previous
        previous = current
    if previous is not None:
        yield replace(previous, end_page=None)


def _limited(ranges: Iterable[PageRange], limit: int) -> Iterator[PageRange]:
    left = limit
    for one in ranges:
        if left <= 0:
            return
        yield replace(one, limit=min(one.rows, left), rows=min(one.rows, left))
        left -= one.rows
