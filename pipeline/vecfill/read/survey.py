"""The survey: how full the target is, and where its eligible rows are.

It counts every row by scanning each leaf. If few rows are missing and a partial index covers them, it lists those
instead and takes the total from the planner's estimate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from vecfill.errors import ConfigError, Fault, classify
from vecfill.postgres import read_sql
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import EMPTY, EXCLUDED, MISSING, Selection
from vecfill.postgres.session import transaction
from vecfill.read.partial_index import list_open_rows
from vecfill.read.units import MAX_BLOCK_BYTES, MAX_BLOCK_ROWS, Bucket, Tid, bucket_pages

SMALL_PAGES = 256
"""Heap pages of a target (2 MiB) below which it is always scanned: an exact count costs nothing there."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How full the embedding column is, over the rows that ``where`` selects.

    Attributes:
        total: all rows.
        filled: rows with a vector.
        missing: rows with a text but without a vector: the eligible ones.
        empty: rows without a vector and without a text.
        estimated: ``total`` and ``filled`` are planner estimates; ``missing`` and ``empty`` are always counted.
    """

    total: int
    filled: int
    missing: int
    empty: int
    estimated: bool = False

    @property
    def percent(self) -> float:
        """Percentage of rows with a vector; 100 for a table without rows."""
        return 100.0 * self.filled / self.total if self.total else 100.0


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The result of a survey: the counts, and the buckets that contain eligible rows.

    ``estimates`` maps each leaf that was not scanned to its estimated rows. A later survey of the same run reuses them,
    so that the difference between two surveys is not a change of the estimate.
    """

    coverage: Coverage
    buckets: tuple[Bucket, ...]
    estimates: Mapping[int, int] = field(default_factory=dict)

    @property
    def eligible(self) -> int:
        """Eligible rows to read: the missing ones without the excluded ones."""
        return sum(bucket.rows for bucket in self.buckets)


@dataclass(frozen=True, kw_only=True)
class _LeafCount:
    """Row counts of a leaf: total (None: not counted), empty, excluded; and the buckets of the eligible rows."""

    total: int | None
    empty: int
    excluded: int
    buckets: list[Bucket]

    @property
    def missing(self) -> int:
        return self.excluded + sum(bucket.rows for bucket in self.buckets)


@contextmanager
def explain_user_sql_errors(relation: Relation) -> Iterator[None]:
    """Attributes errors such as division by zero, or an attempt to write, to the user's SQL: ours cannot cause them.

    Raises:
        ConfigError: with the server's message.
    """
    try:
        yield
    except psycopg.Error as error:
        if classify(error.sqlstate) is not Fault.ROW and not isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            raise
        raise ConfigError(
            f"--where or --text fails on a row of {relation.table.label}: {server_message(error)}: "
            "change it so that it works on every row"
        ) from error


def survey(
    connection: Connection,
    relation: Relation,
    selection: Selection = MISSING,
    *,
    exact: bool = False,
    excluded: Sequence[str] = (),
    earlier: Survey | None = None,
) -> Survey:
    """Surveys every leaf in a transaction of its own. A row that moves between leaves meanwhile may count twice.

    Args:
        connection: to the target's database.
        relation: the target.
        selection: the rows to take.
        exact: count every row, even if a partial index could list the missing ones.
        excluded: keys, as text from the server, whose rows count as missing but are in no bucket.
        earlier: the previous survey of this run, if any.

    Raises:
        ConfigError: the user's SQL fails on some row.
    """
    small = sum(leaf.pages for leaf in relation.table.leaves) < SMALL_PAGES
    estimates = dict(earlier.estimates) if earlier else {}
    leaves = []
    with explain_user_sql_errors(relation):
        for position, leaf in enumerate(relation.table.leaves):
            counted = None if exact or small else _list_leaf(connection, relation, selection, position, excluded)
            if counted is not None and position not in estimates:
                estimates[position] = _estimate_rows(connection, relation, leaf)
            leaves.append(counted or _scan_leaf(connection, relation, selection, position, excluded))
    return _combine(leaves, estimates)


def _combine(leaves: Sequence[_LeafCount], estimates: Mapping[int, int]) -> Survey:
    missing, empty = sum(leaf.missing for leaf in leaves), sum(leaf.empty for leaf in leaves)
    without_total = {position for position, leaf in enumerate(leaves) if leaf.total is None}
    total = sum(
        max(estimates[position], leaf.missing + leaf.empty) if leaf.total is None else leaf.total
        for position, leaf in enumerate(leaves)
    )
    coverage = Coverage(
        total=total, filled=total - missing - empty, missing=missing, empty=empty, estimated=bool(without_total)
    )
    return Survey(
        coverage=coverage,
        buckets=tuple(bucket for leaf in leaves for bucket in leaf.buckets),
        estimates={position: estimates[position] for position in without_total},
    )


def _scan_leaf(
    connection: Connection, relation: Relation, selection: Selection, position: int, excluded: Sequence[str]
) -> _LeafCount:
    leaf = relation.table.leaves[position]
    pages = bucket_pages(leaf.pages)
    query, parameters = read_sql.survey(selection, relation, leaf), (pages, list(excluded))
    with transaction(connection, relation.access.reading, read_only=True, first=query, parameters=parameters) as cursor:
        rows = cursor.fetchall()
    buckets = (
        Bucket(leaf=position, first_page=bucket * pages, pages=pages, rows=count, bytes=size)
        for bucket, count, *_, size in rows
        if bucket is not None
    )
    return _LeafCount(
        total=sum(row[1] for row in rows),
        empty=sum(row[3] for row in rows),
        excluded=sum(row[4] for row in rows),
        buckets=[
            part
            for bucket in buckets
            for part in _split_large_bucket(connection, relation, selection, bucket, excluded)
        ],
    )


def _list_leaf(
    connection: Connection, relation: Relation, selection: Selection, position: int, excluded: Sequence[str]
) -> _LeafCount | None:
    rows = list_open_rows(connection, relation, selection, relation.table.leaves[position], excluded)
    if rows is None:
        return None
    states = [state for _, state, _ in rows]
    return _LeafCount(
        total=None,
        empty=states.count(EMPTY),
        excluded=states.count(EXCLUDED),
        buckets=[
            Bucket.of_row(position, _parse_tid(tid), size) for tid, state, size in rows if state == selection.name
        ],
    )


def _estimate_rows(connection: Connection, relation: Relation, leaf: Leaf) -> int:
    """Returns the planner's estimate of the rows of a leaf that ``where`` selects."""
    query = read_sql.explain_selected_rows(relation, leaf)
    with transaction(connection, relation.access.reading, read_only=True, first=query) as cursor:
        row = cursor.fetchone()
    return int(row[0][0]["Plan"]["Plan Rows"]) if row else 0


def _split_large_bucket(
    connection: Connection, relation: Relation, selection: Selection, bucket: Bucket, excluded: Sequence[str]
) -> Iterator[Bucket]:
    """Splits a bucket with more text than a block may hold, between rows: a page can hold 291 rows of 1 GB each."""
    if bucket.bytes <= MAX_BLOCK_BYTES:
        yield bucket
        return
    bounds: dict[str, Any] = {
        "from": f"({bucket.first_page},0)",
        "to": f"({bucket.first_page + bucket.pages},0)",
        "excluded": list(excluded),
    }
    query = read_sql.split_rows(selection, relation, relation.table.leaves[bucket.leaf], tuple(bounds))
    parameters = (MAX_BLOCK_BYTES // 2, MAX_BLOCK_ROWS, *bounds.values())
    with transaction(connection, relation.access.reading, read_only=True, first=query, parameters=parameters) as cursor:
        runs = cursor.fetchall()
    starts = [bucket.first, *(_parse_tid(tid) for tid, _, _ in runs[1:])]
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


def _parse_tid(tid: str) -> Tid:
    page, _, offset = tid.strip("()").partition(",")
    return int(page), int(offset)
