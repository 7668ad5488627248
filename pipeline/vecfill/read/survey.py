"""The survey: how full the target is, and where its eligible rows are.

It counts every row by scanning each leaf. If few rows are missing and a partial index covers them, it lists those
instead and takes the total from the planner's estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from vecfill.postgres import read_sql
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import EMPTY, EXCLUDED, FAILED, MISSED, MISSING, OUTDATED, UNKNOWN, Selection
from vecfill.postgres.session import transaction
from vecfill.read.large_bucket import parse_tid, split_large_bucket
from vecfill.read.partial_index import list_open_rows
from vecfill.read.pieces import Pieces
from vecfill.read.units import Bucket, PageRange, RowUnit, bucket_pages
from vecfill.read.user_sql_errors import explain_user_sql_errors

SMALL_PAGES = 256
"""Heap pages of a target (2 MiB) below which it is always scanned: an exact count costs nothing there."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How full the embedding column is, over the rows that ``where`` selects.

    Attributes:
        total: all rows.
        filled: rows with a vector.
        missing: rows with a text but without a vector.
        empty: rows without a vector and without a text.
        changed: rows of a tracked target whose vector is to be made anew; they count as filled too.
        unknown: rows of a tracked target whose vector nobody vouches for; they count as filled too.
        failed: rows of a tracked target that failed before, and whose next attempt is not due; those that still have an
            outdated vector count as filled too.
        estimated: ``total`` and ``filled`` are planner estimates; ``missing`` and ``empty`` are always counted.
    """

    total: int
    filled: int
    missing: int
    empty: int
    changed: int = 0
    unknown: int = 0
    failed: int = 0
    estimated: bool = False

    @property
    def open(self) -> int:
        """Rows that a run takes, with those that the caller excludes."""
        return self.missing + self.changed

    @property
    def percent(self) -> float:
        """Percentage of rows with a vector; 100 for a table without rows."""
        return 100.0 * self.filled / self.total if self.total else 100.0


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The result of a survey: the counts, and the buckets that contain eligible rows.

    ``states`` counts the rows by their state, where they were counted. ``estimates`` maps each leaf that was not
    scanned to its estimated rows. A later survey of the same run reuses them, so that the difference between two
    surveys is not a change of the estimate.
    """

    coverage: Coverage
    buckets: tuple[Bucket, ...]
    states: Mapping[str, int] = field(default_factory=dict)
    estimates: Mapping[int, int] = field(default_factory=dict)

    @property
    def eligible(self) -> int:
        """Eligible rows to read: the missing ones without the excluded ones."""
        return sum(bucket.rows for bucket in self.buckets)


@dataclass(frozen=True, kw_only=True)
class _LeafCount:
    """Rows of a leaf by state, whether these are all its rows, and the buckets of the eligible ones."""

    states: Counter[str]
    complete: bool
    buckets: list[Bucket]


def survey(
    connection: Connection,
    relation: Relation,
    selection: Selection = MISSING,
    *,
    exact: bool = False,
    excluded: Sequence[str] = (),
    earlier: Survey | None = None,
    pieces: Pieces | None = None,
    leaves: Container[int] | None = None,
) -> Survey:
    """Surveys every leaf in a transaction of its own, or in several if a time limit asks for that.

    A row that moves from one to another meanwhile may count twice.

    Args:
        connection: to the target's database.
        relation: the target.
        selection: the rows to take.
        exact: count every row, even if a partial index could list the missing ones.
        excluded: keys, as text from the server, whose rows count as missing but are in no bucket.
        earlier: the previous survey of this run, if any.
        pieces: the size of the statements, kept from one survey to the next.
        leaves: positions of the leaves to count; None for all. The rows of the others are estimated.

    Raises:
        ConfigError: the user's SQL fails on some row.
    """
    small = sum(leaf.pages for leaf in relation.table.leaves) < SMALL_PAGES
    estimates = dict(earlier.estimates) if earlier else {}
    counts, pieces = [], pieces or Pieces()
    with explain_user_sql_errors(relation):
        for position, leaf in enumerate(relation.table.leaves):
            if leaves is not None and position not in leaves:
                counts.append(_LeafCount(states=Counter(), complete=leaf.queue, buckets=[]))
                if not leaf.queue and position not in estimates:
                    estimates[position] = _estimate_rows(connection, relation, leaf)
                continue
            whole = PageRange(leaf=position, first_page=0, end_page=None, rows=0)
            listed = partial(_list_leaf, connection, relation, selection, excluded=excluded)
            counted = None if exact or small else pieces.at_once(connection, relation, whole, listed)
            if counted is not None and position not in estimates:
                estimates[position] = _estimate_rows(connection, relation, leaf)
            counts.append(counted or _scan_leaf(connection, relation, selection, whole, excluded, pieces=pieces))
    return _combine(relation, selection, counts, estimates)


def _combine(
    relation: Relation, selection: Selection, counts: Sequence[_LeafCount], estimates: Mapping[int, int]
) -> Survey:
    states = sum((leaf.states for leaf in counts), Counter[str]())
    partial = {position for position, leaf in enumerate(counts) if not leaf.complete}
    missing, empty, failed = states[MISSED] + states[EXCLUDED], states[EMPTY], states[FAILED]
    total = sum(
        leaf.states.total() if leaf.complete else max(estimates[position], leaf.states.total())
        for position, leaf in enumerate(counts)
        if not relation.table.leaves[position].queue
    )
    coverage = Coverage(
        total=total,
        filled=max(0, total - missing - empty - failed),
        missing=missing,
        empty=empty,
        changed=sum(states[reason] for reason in selection.reasons if reason != MISSED),
        unknown=states[UNKNOWN],
        failed=failed + states[OUTDATED],
        estimated=bool(partial),
    )
    return Survey(
        coverage=coverage,
        buckets=tuple(bucket for leaf in counts for bucket in leaf.buckets),
        states=states,
        estimates={position: estimates[position] for position in partial},
    )


def _scan_leaf(
    connection: Connection,
    relation: Relation,
    selection: Selection,
    whole: PageRange,
    excluded: Sequence[str],
    *,
    pieces: Pieces,
) -> _LeafCount:
    leaf = relation.table.leaves[whole.leaf]
    pages = bucket_pages(leaf.pages)

    def fetch(part: RowUnit) -> list[tuple[Any, ...]]:
        bounds = part.bounds()
        query = read_sql.survey(selection, relation, leaf, tuple(bounds))
        parameters = (pages, list(excluded), *bounds.values())
        settings = relation.reading(leaf)
        with transaction(connection, settings, read_only=True, first=query, parameters=parameters) as cursor:
            return cursor.fetchall()

    rows = [row for found in pieces.read(connection, relation, whole, fetch) for row in found]
    buckets = [
        Bucket(leaf=whole.leaf, first_page=bucket * pages, pages=pages, rows=count, bytes=size)
        for bucket, count, size in _by_bucket(rows)
    ]
    return _LeafCount(
        states=sum((Counter({state: count}) for _, state, count, _ in rows), Counter()),
        complete=True,
        buckets=[
            part for bucket in buckets for part in split_large_bucket(connection, relation, selection, bucket, excluded)
        ],
    )


def _by_bucket(rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, int, int]]:
    """Yields bucket, rows and bytes; two pieces may have counted one bucket."""
    counts: Counter[int] = Counter()
    sizes: Counter[int] = Counter()
    for bucket, _, count, size in rows:
        if bucket is not None:
            counts[bucket] += count
            sizes[bucket] += size
    return ((bucket, counts[bucket], sizes[bucket]) for bucket in counts)


def _list_leaf(
    connection: Connection, relation: Relation, selection: Selection, whole: RowUnit, *, excluded: Sequence[str]
) -> _LeafCount | None:
    rows = list_open_rows(connection, relation, selection, relation.table.leaves[whole.leaf], excluded)
    if rows is None:
        return None
    return _LeafCount(
        states=Counter(state for _, state, _ in rows),
        complete=False,
        buckets=[
            Bucket.of_row(whole.leaf, parse_tid(tid), size) for tid, state, size in rows if state in selection.reasons
        ],
    )


def _estimate_rows(connection: Connection, relation: Relation, leaf: Leaf) -> int:
    """Returns the planner's estimate of the rows of a leaf that ``where`` selects."""
    query = read_sql.explain_selected_rows(relation, leaf)
    with transaction(connection, relation.access.reading, read_only=True, first=query) as cursor:
        row = cursor.fetchone()
    return int(row[0][0]["Plan"]["Plan Rows"]) if row else 0
