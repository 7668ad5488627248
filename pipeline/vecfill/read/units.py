"""Units of work: splits the eligible rows of a table into blocks. Pure; the counts come from ``survey``.

A unit is a range of tids, mostly whole heap pages, or a list of tids from an index.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 512, 8_192
"""512 rows are still enough to sort by length; 8,192 rows have 12 MB of vectors at 384 dimensions. The engine chooses a
size in between: a stop waits for the blocks in flight."""

BLOCKS_PER_RUN = 8
"""Enough blocks to overlap reading, encoding and writing even in a small table. Larger blocks sort better by length:
17,269 job listings in batches of 2,048 tokens have 10.6% padding in blocks of 540 rows and 4.5% in blocks of 2,000."""

MAX_BLOCK_BYTES = 32 << 20
"""Most bytes of text in a block: a reader holds one block at a time."""

BUCKETS = 8_192
"""Most buckets of a leaf in a survey: limits the driver's memory."""

MIN_BUCKET_PAGES = 4
"""32 KiB of heap: some hundred rows of a few columns."""


Tid = tuple[int, int]
"""A row's place: heap page, and the row's number in it, from 1."""


def parse_tid(tid: str) -> Tid:
    """Parses a row's place as the server writes it, such as ``(12,3)``."""
    page, _, offset = tid.strip("()").partition(",")
    return int(page), int(offset)


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Number of eligible rows, and bytes of their texts, in a run of heap pages of a leaf.

    It starts at row ``first_offset`` of ``first_page`` and ends before row ``end_offset`` of page
    ``first_page + pages``; offsets of 0 mean whole pages. ``listed`` marks a single row from a partial index: its
    neighbours are unknown.
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
        """Returns the bucket of a single row from an index."""
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
        """The tid after the last row."""
        return self.first_page + self.pages, self.end_offset


@dataclass(frozen=True, kw_only=True)
class PageRange:
    """The rows of a leaf from one tid up to, not including, another.

    Attributes:
        leaf: position among the target's leaves.
        first_page, first_offset: tid of the first row; offset 0 means the whole page.
        end_page, end_offset: tid after the last row; ``end_page`` None means an open end.
        rows: eligible rows in it, counted by the survey.
        limit: the most rows to read (None: all).
        excluded: keys to exclude, as text from the server.
    """

    leaf: int
    first_page: int
    end_page: int | None
    rows: int
    limit: int | None = None
    first_offset: int = 0
    end_offset: int = 0
    excluded: tuple[str, ...] = ()

    def bounds(self) -> dict[str, Any]:
        """Returns the bounds for ``read_sql.read``: name → parameter."""
        bounds: dict[str, Any] = {}
        if (self.first_page, self.first_offset) != (0, 0):
            bounds["from"] = f"({self.first_page},{self.first_offset})"
        if self.end_page is not None:
            bounds["to"] = f"({self.end_page},{self.end_offset})"
        return bounds | _excluded(self.excluded)


@dataclass(frozen=True, kw_only=True)
class RowList:
    """Listed rows of a leaf, for example from a partial index.

    Attributes:
        leaf: position among the target's leaves.
        tids: places of the rows.
        rows: eligible rows among them, counted by the survey.
        limit: the most rows to read (None: all).
        excluded: keys to exclude, as text from the server.
    """

    leaf: int
    tids: Sequence[Tid]
    rows: int
    limit: int | None = None
    excluded: tuple[str, ...] = ()

    def bounds(self) -> dict[str, Any]:
        """Returns the bounds for ``read_sql.read``: name → parameter."""
        tids = ",".join(f'"({page},{offset})"' for page, offset in self.tids)
        return {"at": f"{{{tids}}}"} | _excluded(self.excluded)


RowUnit = PageRange | RowList
"""A unit of a table; the same statement reads both kinds."""


def _excluded(keys: tuple[str, ...]) -> dict[str, Any]:
    return {"excluded": list(keys)} if keys else {}


def bucket_pages(pages: int) -> int:
    """Returns the heap pages in a bucket, for a leaf of ``pages`` pages."""
    return max(MIN_BUCKET_PAGES, -(-pages // BUCKETS))


def block_rows(eligible: int, most: int = MAX_BLOCK_ROWS) -> int:
    """Returns the target size of a block in rows, at most ``most``, for a run of ``eligible`` rows."""
    return min(most, MAX_BLOCK_ROWS, max(MIN_BLOCK_ROWS, eligible // BLOCKS_PER_RUN))


def plan_units(
    buckets: Sequence[Bucket], limit: int | None = None, most_rows: int = MAX_BLOCK_ROWS, excluded: tuple[str, ...] = ()
) -> list[RowUnit]:
    """Splits the surveyed rows into units of about ``block_rows`` rows and at most ``MAX_BLOCK_BYTES`` of text.

    Pages between two units have no eligible row and are not read. The last range of each leaf has an open end, for rows
    that are inserted or move during the run; a list has not.

    Args:
        buckets: from a survey.
        limit: the most rows in all units together.
        most_rows: the most rows of a unit.
        excluded: keys to exclude, as text from the server.
    """
    eligible = sum(bucket.rows for bucket in buckets)
    aim = block_rows(min(eligible, limit) if limit is not None else eligible, most_rows)
    ordered = sorted(buckets, key=lambda bucket: (bucket.leaf, *bucket.first))
    units = [replace(unit, excluded=excluded) for unit in _open_ends(_merge(_split(ordered, aim), aim))]
    return units if limit is None else list(_apply_limit(units, limit))


def _split(buckets: Iterable[Bucket], aim: int) -> Iterator[Bucket]:
    """Splits a bucket that is larger than a block into equal runs of pages."""
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


def _merge(buckets: Iterable[Bucket], aim: int) -> Iterator[RowUnit]:
    """Joins neighbouring buckets until a block is full."""
    held: list[Bucket] = []
    for bucket in buckets:
        if held and not _fits(held, bucket, aim):
            yield _unit(held)
            held = []
        held.append(bucket)
    if held:
        yield _unit(held)


def _fits(held: Sequence[Bucket], bucket: Bucket, aim: int) -> bool:
    rows = sum(one.rows for one in held) + bucket.rows
    size = sum(one.bytes for one in held) + bucket.bytes
    alike = (bucket.leaf, bucket.listed) == (held[0].leaf, held[0].listed)
    return alike and rows <= aim * 1.25 and size <= MAX_BLOCK_BYTES


def _unit(held: Sequence[Bucket]) -> RowUnit:
    leaf, rows = held[0].leaf, sum(bucket.rows for bucket in held)
    if held[0].listed:
        return RowList(leaf=leaf, tids=tuple(bucket.first for bucket in held), rows=rows)
    (first_page, first_offset), (end_page, end_offset) = held[0].first, held[-1].end
    return PageRange(
        leaf=leaf,
        first_page=first_page,
        first_offset=first_offset,
        end_page=end_page,
        end_offset=end_offset,
        rows=rows,
    )


def _open_ends(units: Iterable[RowUnit]) -> Iterator[RowUnit]:
    """Opens the end of the last range of each leaf."""
    for _, of_leaf in itertools.groupby(units, key=lambda unit: unit.leaf):
        *others, last = of_leaf
        yield from others
        yield _without_end(last)


def _without_end(last: RowUnit) -> RowUnit:
    """Removes the end; reads at most one block of uncounted rows, and the next sweep the rest of a mass insert."""
    if isinstance(last, RowList):
        return last
    return replace(last, end_page=None, end_offset=0, limit=last.rows + MAX_BLOCK_ROWS)


def _apply_limit(units: Iterable[RowUnit], limit: int) -> Iterator[RowUnit]:
    left = limit
    for unit in units:
        if left <= 0:
            return
        yield replace(unit, limit=min(unit.rows, left), rows=min(unit.rows, left))
        left -= unit.rows
