"""The survey: how full the target is, and where its eligible rows are.

It counts every row by scanning each leaf. If few rows are missing and a partial index covers them, it lists those
instead and takes the total from the planner's estimate.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import EMPTY, EXCLUDED, FAILED, MISSED, MISSING, OUTDATED, UNKNOWN, Selection
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
        missing: rows with a text but without a vector.
        empty: rows without a vector and without a text.
        changed: rows of a tracked target whose vector is to be made anew; they count as filled too.
        unknown: rows of a tracked target whose vector nobody vouches for; they count as filled too.
        failed: rows of a tracked target that failed before, and whose next attempt is not due; those that still have an
            outdated vector count as filled too.
        unqueued: rows without a vector that no pending entry of the queue table names; None if they were not counted,
            and then they count as filled. 0 without a queue table.
        estimated: ``total`` and ``filled`` are planner estimates; ``missing`` and ``empty`` are always counted.
    """

    total: int
    filled: int
    missing: int
    empty: int
    changed: int = 0
    unknown: int = 0
    failed: int = 0
    unqueued: int | None = 0
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
        ConfigError: the user's SQL fails on all rows, or on very many.
    """
    small = sum(leaf.pages for leaf in relation.table.leaves) < SMALL_PAGES
    estimates = dict(earlier.estimates) if earlier else {}
    counts, pieces = [], pieces or Pieces()
    counter = LeafCounter(
        connection=connection, relation=relation, selection=selection, excluded=excluded, pieces=pieces
    )
    with explain_user_sql_errors(relation):
        for position, leaf in enumerate(relation.table.leaves):
            if leaves is not None and position not in leaves:
                counts.append(LeafCount(states=Counter(), complete=leaf.queue, buckets=[]))
                if not leaf.queue and position not in estimates:
                    estimates[position] = counter.estimate_rows(position)
                continue
            whole = PageRange(leaf=position, first_page=0, end_page=None, rows=0)
            fast = not exact and not small
            counted = pieces.at_once(connection, relation, whole, lambda unit, _: counter.list(unit)) if fast else None
            if counted is not None and position not in estimates:
                estimates[position] = counter.estimate_rows(position)
            counts.append(counted or counter.scan(whole))
    if counter.unreadable and not earlier:
        log.warning(
            "rows of %s that cannot be read: %d; without a vector they count as missing; the first error: %s",
            *(relation.table.label, counter.unreadable, counter.error),
            extra={"target": relation.table.label, "rows": counter.unreadable},
        )
    return _combine(relation, selection, counts, estimates)


def _combine(
    relation: Relation, selection: Selection, counts: Sequence[LeafCount], estimates: Mapping[int, int]
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
