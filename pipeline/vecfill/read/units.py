"""Ranges: how the eligible rows of a table are cut into blocks. Pure; the counts come from ``survey``.

A range runs from a tid to a tid, mostly from page to page. Where few rows are missing it is a list of their tids.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 512, 8_192
"""A block of 512 rows still sorts well by length; one of 8,192 holds 12 MB of vectors of 384 dimensions. The engine
says how many between them: a stop waits for what is in flight."""

BLOCKS_PER_RUN = 8
"""Enough blocks that reading, encoding and writing overlap, also in a small table; texts of larger blocks sort better:
17,269 job listings in batches of 2,048 tokens have 10.6% padding in blocks of 540 rows and 4.5% in blocks of 2,000."""

MAX_BLOCK_BYTES = 32 << 20
"""Bytes of text in a block: what a reader holds at once."""

BUCKETS = 8_192
"""Most buckets that a survey counts a leaf in: bounds the driver's memory."""

MIN_BUCKET_PAGES = 4
"""128 KiB of heap: some hundred rows of a few columns."""


Tid = tuple[int, int]
"""Where a row lies: heap page, and the row's number there, from 1."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Eligible rows, and bytes of their texts, in one run of heap pages of a leaf.

    It starts at row ``first_offset`` of ``first_page`` and ends before row ``end_offset`` of the page that is ``pages``
    further; 0 stands for whole pages. ``listed`` is one row that a partial index named: what lies around is not known.
    """

    leaf: int
    first_page: int
    pages: int
    rows: int
    bytes: int
    first_offset: int = 0
    end_offset: int = 0
    listed: bool = False

    @classmethod
    def of_row(cls, leaf: int, tid: Tid, size: int) -> Bucket:
        """The bucket that is one row, named by an index."""
        page, offset = tid
        return cls(
            leaf=leaf,
            first_page=page,
            pages=0,
            rows=1,
            bytes=size,
            first_offset=offset,
            end_offset=offset + 1,
            listed=True,
        )

    @property
    def first(self) -> Tid:
        """The first tid."""
        return self.first_page, self.first_offset

    @property
    def end(self) -> Tid:
        """The tid after the last."""
        return self.first_page + self.pages, self.end_offset


@dataclass(frozen=True, kw_only=True)
class PageRange:
    """The rows of a leaf from ``first`` up to, not including, ``end``; ``end_page`` None leaves it open.

    Attributes:
        leaf: position among the target's leaves.
        first_page, first_offset: tid of the first row; offset 0 stands for the whole page.
        end_page, end_offset: tid after the last row.
        rows: what the survey counted there.
        limit: the most that may be read (None: all).
        tids: only these rows; empty for all between the bounds.
        excluded: keys to be left out, in the server's own text.
    """

    leaf: int
    first_page: int
    end_page: int | None
    rows: int
    limit: int | None = None
    first_offset: int = 0
    end_offset: int = 0
    tids: tuple[Tid, ...] = ()
    excluded: tuple[str, ...] = ()


def bucket_pages(pages: int) -> int:
    """Heap pages in a bucket of a leaf of ``pages`` pages."""
    return max(MIN_BUCKET_PAGES, -(-pages // BUCKETS))


def block_rows(eligible: int, most: int = MAX_BLOCK_ROWS) -> int:
    """Rows that a block aims at, for a run of ``eligible`` rows; at most ``most``."""
    return min(most, max(MIN_BLOCK_ROWS, eligible // BLOCKS_PER_RUN))


def plan_ranges(
    buckets: Sequence[Bucket], limit: int | None = None, most_rows: int = MAX_BLOCK_ROWS
) -> list[PageRange]:
    """Cuts the surveyed rows into ranges of about ``block_rows`` rows and at most ``MAX_BLOCK_BYTES`` of text.

    ``most_rows`` bounds the rows further.

    Pages between two ranges hold no eligible row and are not read. Each leaf's last range stays open, for rows that
    arrive or move while we read, unless its rows were listed. With ``limit`` the ranges end where that many rows are
    reached.
    """
    eligible = sum(bucket.rows for bucket in buckets)
    aim = block_rows(min(eligible, limit) if limit is not None else eligible, most_rows)
    ordered = sorted(buckets, key=lambda bucket: (bucket.leaf, *bucket.first))
    ranges = list(_open_ends(_merge(_split(ordered, aim), aim)))
    return ranges if limit is None else list(_limited(ranges, limit))


def _split(buckets: Iterable[Bucket], aim: int) -> Iterator[Bucket]:
    """Cuts a bucket that holds several blocks into even runs of pages."""
    for bucket in buckets:
        if bucket.first_offset or bucket.end_offset:
            yield bucket
            continue
        wanted = max(1, round(bucket.rows / aim), -(-bucket.bytes // MAX_BLOCK_BYTES))
        parts = max(1, min(bucket.pages, bucket.rows, wanted))
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
    alike = (bucket.leaf, bucket.listed) == (held[0].leaf, held[0].listed)
    return alike and rows <= aim * 1.25 and size <= MAX_BLOCK_BYTES


def _range(held: Sequence[Bucket]) -> PageRange:
    (first_page, first_offset), (end_page, end_offset) = held[0].first, held[-1].end
    return PageRange(
        leaf=held[0].leaf,
        first_page=first_page,
        first_offset=first_offset,
        end_page=end_page,
        end_offset=end_offset,
        rows=sum(bucket.rows for bucket in held),
        tids=tuple(bucket.first for bucket in held if bucket.listed),
    )


def _open_ends(ranges: Iterable[PageRange]) -> Iterator[PageRange]:
    """Leaves each leaf's last range open at its end."""
    previous: PageRange | None = None
    for current in ranges:
        if previous is not None:
            yield _opened(previous) if previous.leaf != current.leaf else previous
        previous = current
    if previous is not None:
        yield _opened(previous)


def _opened(last: PageRange) -> PageRange:
    """Open for a block's worth of rows that nobody counted: a mass insert meanwhile is work for the next sweep."""
    return last if last.tids else replace(last, end_page=None, end_offset=0, limit=last.rows + MAX_BLOCK_ROWS)


def _limited(ranges: Iterable[PageRange], limit: int) -> Iterator[PageRange]:
    left = limit
    for one in ranges:
        if left <= 0:
            return
        yield replace(one, limit=min(one.rows, left), rows=min(one.rows, left))
        left -= one.rows
