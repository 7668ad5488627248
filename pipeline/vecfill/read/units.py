"""Units of work: how the eligible rows of a table are cut into blocks. Pure; the counts come from ``survey``.

A unit is a range from a tid to a tid, mostly whole heap pages, or a list of tids where an index named the rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
    """The rows of a leaf from one tid up to, not including, another.

    Attributes:
        leaf: position among the target's leaves.
        first_page, first_offset: tid of the first row; offset 0 is the whole page.
        end_page, end_offset: tid after the last row; ``end_page`` None leaves the range open.
        rows: eligible rows that the survey counted in it.
        limit: the most rows to read (None: all).
        excluded: keys to leave out, in the server's own text.
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
        """The conditions of ``read_sql.read``, by name, each with its parameter."""
        bounds: dict[str, Any] = {}
        if (self.first_page, self.first_offset) != (0, 0):
            bounds["from"] = f"({self.first_page},{self.first_offset})"
        if self.end_page is not None:
            bounds["to"] = f"({self.end_page},{self.end_offset})"
        return bounds | _excluded(self.excluded)


@dataclass(frozen=True, kw_only=True)
class RowList:
    """Rows of a leaf that something named, such as a partial index.

    Attributes:
        leaf: position among the target's leaves.
        tids: where the rows are.
        rows: eligible rows among them, by the survey.
        limit: the most rows to read (None: all).
        excluded: keys to leave out, in the server's own text.
    """

    leaf: int
    tids: tuple[Tid, ...]
    rows: int
    limit: int | None = None
    excluded: tuple[str, ...] = ()

    def bounds(self) -> dict[str, Any]:
        """The conditions of ``read_sql.read``, by name, each with its parameter."""
        tids = ",".join(f'"({page},{offset})"' for page, offset in self.tids)
        return {"at": f"{{{tids}}}"} | _excluded(self.excluded)


RowUnit = PageRange | RowList
"""A unit of a table; both kinds are read by the same statement."""


def _excluded(keys: tuple[str, ...]) -> dict[str, Any]:
    return {"excluded": list(keys)} if keys else {}


def bucket_pages(pages: int) -> int:
    """Heap pages in a bucket of a leaf of ``pages`` pages."""
    return max(MIN_BUCKET_PAGES, -(-pages // BUCKETS))


def block_rows(eligible: int, most: int = MAX_BLOCK_ROWS) -> int:
    """Rows that a block aims at, for a run of ``eligible`` rows; at most ``most``."""
    return min(most, MAX_BLOCK_ROWS, max(MIN_BLOCK_ROWS, eligible // BLOCKS_PER_RUN))


def plan_units(
    buckets: Sequence[Bucket], limit: int | None = None, most_rows: int = MAX_BLOCK_ROWS, excluded: tuple[str, ...] = ()
) -> list[RowUnit]:
    """Cuts the surveyed rows into units of about ``block_rows`` rows and at most ``MAX_BLOCK_BYTES`` of text.

    Pages between two units hold no eligible row and are not read. Each leaf's last range stays open, for rows that
    arrive or move while we read; a list does not.

    Args:
        buckets: from a survey.
        limit: the units end where they hold this many rows.
        most_rows: the most rows of a unit.
        excluded: keys to leave out, in the server's own text.
    """
    eligible = sum(bucket.rows for bucket in buckets)
    aim = block_rows(min(eligible, limit) if limit is not None else eligible, most_rows)
    ordered = sorted(buckets, key=lambda bucket: (bucket.leaf, *bucket.first))
    units = [replace(unit, excluded=excluded) for unit in _open_ends(_merge(_split(ordered, aim), aim))]
    return units if limit is None else list(_apply_limit(units, limit))


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


def _merge(buckets: Iterable[Bucket], aim: int) -> Iterator[RowUnit]:
    """Joins neighbours until a block is full."""
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
    """Leaves the last range of each leaf open at its end."""
    for _, of_leaf in itertools.groupby(units, key=lambda unit: unit.leaf):
        *others, last = of_leaf
        yield from others
        yield _without_end(last)


def _without_end(last: RowUnit) -> RowUnit:
    """Open for a block's worth of rows that nobody counted: a mass insert meanwhile is work for the next sweep."""
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
