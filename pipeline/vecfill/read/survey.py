"""The survey: how full the target is, and where its eligible rows are.

It counts every row by scanning each leaf. If few rows are missing and a partial index covers them, it lists those
instead and takes the total from the planner's estimate.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import MISSING, Selection
from vecfill.read.leaf_count import LeafCount, LeafCounter
from vecfill.read.pieces import Pieces
from vecfill.read.units import Bucket, PageRange
from vecfill.read.user_sql_errors import explain_user_sql_errors

log = logging.getLogger(__name__)

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


def survey(
    connection: Connection,
    relation: Relation,
    selection: Selection = MISSING,
    *,
    exact: bool = False,
    excluded: Sequence[str] = (),
    earlier: Survey | None = None,
    pieces: Pieces | None = None,
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

    Raises:
        ConfigError: the user's SQL fails on all rows, or on very many.
    """
    small = sum(leaf.pages for leaf in relation.table.leaves) < SMALL_PAGES
    estimates = dict(earlier.estimates) if earlier else {}
    leaves, pieces = [], pieces or Pieces()
    counter = LeafCounter(
        connection=connection, relation=relation, selection=selection, excluded=excluded, pieces=pieces
    )
    with explain_user_sql_errors(relation):
        for position in range(len(relation.table.leaves)):
            whole = PageRange(leaf=position, first_page=0, end_page=None, rows=0)
            counted = (
                None
                if exact or small
                else pieces.at_once(connection, relation, whole, lambda unit, _: counter.list(unit))
            )
            if counted is not None and position not in estimates:
                estimates[position] = counter.estimate_rows(position)
            leaves.append(counted or counter.scan(whole))
    if counter.unreadable and not earlier:
        log.warning(
            "rows of %s that cannot be read: %d; without a vector they count as missing; the first error: %s",
            *(relation.table.label, counter.unreadable, counter.error),
            extra={"target": relation.table.label, "rows": counter.unreadable},
        )
    return _combine(leaves, estimates)


def _combine(leaves: Sequence[LeafCount], estimates: Mapping[int, int]) -> Survey:
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
