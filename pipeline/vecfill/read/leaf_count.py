"""Counts the rows of one leaf, and finds the eligible ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vecfill.bisection import SharedFaultError
from vecfill.postgres import read_sql
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation, without_user_sql
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import Query
from vecfill.postgres.transaction import transaction
from vecfill.read.partial_index import Listed, list_open_rows
from vecfill.read.pieces import Pieces
from vecfill.read.units import (
    MAX_BLOCK_BYTES,
    MAX_BLOCK_ROWS,
    Bucket,
    PageRange,
    RowList,
    RowUnit,
    bucket_pages,
    parse_tid,
)
from vecfill.read.unreadable_rows import MAX_UNREADABLE, Fetch, Rows, is_row_fault

SAMPLED_PAGES = 256
"""Heap pages (2 MB) of a leaf without statistics whose rows are counted for an estimate."""

COUNTED_PAGES = 64
"""Heap pages (512 KB) of a leaf up to which its rows are counted where an estimate would do."""


@dataclass(frozen=True, kw_only=True)
class LeafCount:
    """Rows of a leaf by state, whether these are all its rows, and the buckets of the eligible ones."""

    states: Counter[str]
    complete: bool
    buckets: list[Bucket]


@dataclass(kw_only=True)
class LeafCounter:
    """Counts leaf after leaf.

    Attributes:
        connection: to the target's database.
        relation: the target.
        selection: the rows to take.
        excluded: keys, as text from the server, whose rows count as missing but are in no bucket.
        pieces: the size of the statements.
        unreadable: rows on which the user's SQL failed; without a vector they count as eligible.
        error: the first of their errors.
    """

    connection: Connection
    relation: Relation
    selection: Selection
    excluded: Sequence[str]
    pieces: Pieces
    unreadable: int = 0
    error: str = ""

    def scan(self, whole: PageRange) -> LeafCount:
        """Reads every row of the leaf."""
        leaf = self.relation.table.leaves[whole.leaf]
        pages = bucket_pages(leaf.pages)

        def fetch(part: RowUnit, relation: Relation) -> Rows:
            bounds = part.bounds()
            query = read_sql.survey(self.selection, relation, leaf, tuple(bounds))
            return self._run(leaf, query, (pages, list(self.excluded), *bounds.values()))

        rows = self._read(whole, fetch)
        buckets = [
            Bucket(leaf=whole.leaf, first_page=bucket * pages, pages=pages, rows=count, bytes=size)
            for bucket, count, size in _by_bucket(rows)
        ]
        return LeafCount(
            states=sum((Counter({state: count}) for _, state, count, _ in rows), Counter()),
            complete=True,
            buckets=[part for bucket in buckets for part in self._split_large_bucket(bucket)],
        )

    def list(self, whole: RowUnit) -> LeafCount | None:
        """Lists the open rows from a partial index; None if that is no good way, see ``list_open_rows``."""
        if (rows := self._listed(whole.leaf)) is None:
            return None
        return LeafCount(
            states=Counter(state for _, state, _ in rows),
            complete=False,
            buckets=[
                Bucket.of_row(whole.leaf, parse_tid(tid), size)
                for tid, state, size in rows
                if state in self.selection.reasons
            ],
        )

    def estimate_rows(self, position: int) -> int:
        """Returns the planner's estimate of the rows of a leaf that ``where`` selects; the count of a small leaf.

        Without statistics, as after a bulk load, the planner takes a vector for 32 bytes and says ten times too many:
        then a sample is counted.
        """
        leaf = self.relation.table.leaves[position]
        if leaf.pages <= COUNTED_PAGES or not leaf.counted:
            percent = min(100.0, 100.0 * SAMPLED_PAGES / max(1, leaf.pages))
            try:
                rows = int(self._run(leaf, read_sql.count_sampled_rows(self.relation, leaf, percent), ())[0][0])
                return round(rows * 100 / percent)
            except Exception as error:
                if not is_row_fault(error):
                    raise
        row = self._run(leaf, read_sql.explain_selected_rows(self.relation, leaf), ())[0]
        return int(row[0][0]["Plan"]["Plan Rows"])

    def _listed(self, position: int) -> Listed | None:
        leaf = self.relation.table.leaves[position]
        try:
            return list_open_rows(self.connection, self.relation, self.selection, leaf, self.excluded)
        except Exception as error:
            if not is_row_fault(error):
                raise
        everything = list_open_rows(
            self.connection, without_user_sql(self.relation), self.selection, leaf, self.excluded
        )
        if everything is None:
            return None

        def fetch(part: RowUnit, relation: Relation) -> Rows:
            bounds = part.bounds()
            query = read_sql.list_open_rows(self.selection, relation, leaf, tuple(bounds), excluded=bool(self.excluded))
            excluded = [list(self.excluded)] if self.excluded else []
            return self._run(leaf, query, (part.rows, *excluded, *bounds.values()))

        tids = tuple(parse_tid(tid) for tid, *_ in everything)
        return self._read(RowList(leaf=position, tids=tids, rows=len(tids)), fetch)

    def _split_large_bucket(self, bucket: Bucket) -> Iterator[Bucket]:
        """Splits a bucket with more text than a block may hold, between rows: a page can hold 291 rows of 1 GB each."""
        if bucket.bytes <= MAX_BLOCK_BYTES:
            yield bucket
            return
        leaf = self.relation.table.leaves[bucket.leaf]
        end_page = bucket.first_page + bucket.pages
        whole = PageRange(
            leaf=bucket.leaf,
            first_page=bucket.first_page,
            end_page=end_page,
            rows=bucket.rows,
            excluded=tuple(self.excluded),
        )

        def fetch(part: RowUnit, relation: Relation) -> Rows:
            bounds = part.bounds()
            query = read_sql.split_rows(self.selection, relation, leaf, tuple(bounds))
            return self._run(leaf, query, (MAX_BLOCK_BYTES // 2, MAX_BLOCK_ROWS, *bounds.values()))

        runs = sorted((parse_tid(tid), rows, size) for tid, rows, size in self._read(whole, fetch))
        starts = [bucket.first, *(tid for tid, _, _ in runs[1:])]
        ends = [*starts[1:], bucket.end]
        for (page, offset), (end_page, end_offset), (_, rows, size) in zip(starts, ends, runs, strict=False):
            yield Bucket(
                leaf=bucket.leaf,
                first_page=page,
                first_offset=offset,
                pages=end_page - page,
                end_offset=end_offset,
                rows=rows,
                bytes=size,
            )

    def _read(self, unit: RowUnit, fetch: Fetch) -> Rows:
        """Reads a unit around its unreadable rows, and counts those.

        Raises:
            SharedFaultError: there are more than ``MAX_UNREADABLE``.
        """
        rows: Rows = []
        for found, error in self.pieces.read(self.connection, self.relation, unit, fetch):
            rows += found
            if error:
                self.unreadable, self.error = self.unreadable + 1, self.error or str(error)
                if self.unreadable > MAX_UNREADABLE:
                    raise SharedFaultError(f"more than {MAX_UNREADABLE} rows fail") from error
        return rows

    def _run(self, leaf: Leaf, query: Query, parameters: tuple[Any, ...]) -> Rows:
        settings = self.relation.reading(leaf)
        with transaction(self.connection, settings, read_only=True, first=query, parameters=parameters) as cursor:
            return cursor.fetchall()


def _by_bucket(rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, int, int]]:
    """Yields bucket, rows and bytes; two pieces may have counted one bucket."""
    counts: Counter[int] = Counter()
    sizes: Counter[int] = Counter()
    for bucket, _, count, size in rows:
        if bucket is not None:
            counts[bucket] += count
            sizes[bucket] += size
    return ((bucket, counts[bucket], sizes[bucket]) for bucket in counts)
