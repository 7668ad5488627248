"""A tracked target as the source of a run: reads what the queue of changes names, and what no queue covers as a whole.

A table or partition is read as a whole once, after tracking began or it was attached; until that found no eligible row,
its changes wait in the queue. After that the queue names all that a run has to read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from vecfill.ledger import queue
from vecfill.ledger.registry import Tracked
from vecfill.ledger.scanned import marks_now
from vecfill.ledger.target_notes import mark_scanned
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import EMPTIED, UNKNOWN, Selection
from vecfill.read.look import Look
from vecfill.read.pieces import applied
from vecfill.read.source import TableSource
from vecfill.read.survey import Survey


@dataclass
class LedgerCounts:
    """What a run found in the ledger, and did there.

    Attributes:
        queued_before: entries of the queue when the run began.
        queued_after: entries of the queue at the last look.
        cleared: vectors cleared because their text became empty.
        uncleared: vectors still to clear, since another session locked their rows.
        unknown: vectors of unknown origin when the table was last read as a whole; None if it was not yet.
    """

    queued_before: int | None = None
    queued_after: int = 0
    cleared: int = 0
    uncleared: int = 0
    unknown: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrackedSource(TableSource):
    """Surveys and reads a tracked target.

    Attributes:
        settling: the selection by which the queue is settled: what it does not take leaves the queue.
        to_scan: oids of the tables and partitions to read as a whole; emptied once that is done.
        counts: what the result of the run says of the ledger.
    """

    remembers_failures: ClassVar[bool] = True
    settling: Selection
    to_scan: set[int] = field(default_factory=set)
    counts: LedgerCounts = field(default_factory=LedgerCounts)

    @classmethod
    def of(cls, source: TableSource, tracked: Tracked, settling: Selection, *, whole: bool) -> TrackedSource:
        """Makes it from a source of the tracked relation; ``whole`` reads everything, whatever the queue names."""
        leaves = frozenset(leaf.oid for leaf in source.relation.table.leaves)
        return cls(
            session=source.session,
            relation=with_queue(source.relation),
            selection=source.selection,
            order=source.order,
            pieces=source.pieces,
            settling=settling,
            to_scan=set(leaves if whole else tracked.to_scan),
            counts=LedgerCounts(unknown=tracked.unknown),
        )

    def at(self, relation: Relation) -> Self:
        """Returns the same source of the target as it is now; a partition that was attached is read as a whole."""
        before, now = ({leaf.oid for leaf in one.table.leaves} for one in (self.relation, relation))
        return replace(self, relation=with_queue(relation), to_scan=self.to_scan & now | now - before)

    def look(self, excluded: tuple[str, ...] = ()) -> Look:
        """Looks at the queue; ``excluded`` says nothing here, since the ledger sets failed rows aside."""
        found = self.session.run(lambda connection: queue.queue_of(connection, self.relation))
        return Look(rows=found.entries, oldest_s=found.oldest_s, pages=found.pages)

    def tidy(self, most_pages: int) -> None:
        """Queues the failed rows whose next attempt is due; vacuums a queue of more pages."""

        def work(connection: Connection) -> None:
            queue.renew_failures(connection, self.relation)
            if queue.queue_of(connection, self.relation).pages > most_pages:
                queue.vacuum(connection, self.relation)

        self.session.run(work)

    def is_idle(self) -> bool:
        """Whether there is nothing to read or to settle at the start of a run."""

        def look(connection: Connection) -> bool:
            return not self._begin(connection) and not self.to_scan

        return self.session.run(look)

    def _begin(self, connection: Connection) -> int:
        """Queues the failed rows whose next attempt is due, once; returns the entries of the queue then."""
        if self.counts.queued_before is None:
            queue.renew_failures(connection, self.relation)
            self.counts.queued_before = queue.queue_of(connection, self.relation).entries
        return self.counts.queued_before

    def _surveyed(
        self, connection: Connection, *, exact: bool, excluded: tuple[str, ...], earlier: Survey | None
    ) -> Survey:
        """Settles the queue and counts the rows to read, in the tables to read as a whole or in the queue."""
        self._begin(connection)
        scanned = None
        if self.to_scan:
            self.pieces.divided, marks = False, marks_now(connection, self.relation)
            scanned = self._counted(
                connection, exact=exact, excluded=excluded, earlier=earlier, leaves=self._positions()
            )
            if scanned.eligible:
                return scanned
            self._scanned(connection, scanned, marks)
        queued = self._queue(connection, excluded=excluded, earlier=earlier)
        self.counts.uncleared = queued.states.get(EMPTIED, 0)
        if scanned and not queued.eligible:
            return scanned
        return with_failures(queued, *queue.failures_waiting(connection, self.relation, self.settling))

    def _queue(self, connection: Connection, *, excluded: tuple[str, ...], earlier: Survey | None) -> Survey:
        """Surveys the queue. If every entry is of a row to read, as after a few edits, nothing is to be settled."""
        last = len(self.relation.table.leaves) - 1

        def look() -> Survey:
            self.counts.queued_after = queue.queue_of(connection, self.relation).entries
            leaves = (last,) if self.counts.queued_after else ()
            return self._counted(connection, excluded=excluded, earlier=earlier, leaves=leaves)

        found = look()
        if sum(found.states.get(reason, 0) for reason in self.selection.reasons) == self.counts.queued_after:
            return found
        apply = applied(connection, self.relation, last)
        self.counts.cleared += queue.settle(connection, self.relation, self.settling, apply)
        return look()

    def _positions(self) -> tuple[int, ...]:
        leaves = enumerate(self.relation.table.leaves)
        return tuple(position for position, leaf in leaves if leaf.oid in self.to_scan)

    def _scanned(self, connection: Connection, found: Survey, marks: Mapping[int, set[int]]) -> None:
        """Notes that the tables read as a whole hold no eligible row, if each was read by one statement.

        Otherwise a row may have moved, without an entry in the queue, from a part not yet read to one read before.
        """
        if found.states.get(EMPTIED):
            for position in self._positions():
                leaf = self.relation.table.leaves[position]
                queue.queue_emptied(connection, self.selection, leaf, applied(connection, self.relation, position))
        if self.selection.name != "missing" and not self.pieces.divided:
            whole = len(self._positions()) == len(self.relation.table.leaves) - 1
            self.counts.unknown = found.states.get(UNKNOWN, 0) + (0 if whole else self.counts.unknown or 0)
            read = {mark for leaf in self.to_scan for mark in marks.get(leaf, ())}
            mark_scanned(connection, self.relation, read, self.counts.unknown)
        self.to_scan.clear()


def pending(
    connection: Connection, relation: Relation, selection: Selection, scanned: Sequence[int] = ()
) -> queue.Pending:
    """Counts what a run would take from the queue, the last leaf of ``with_queue``; see ``queue.pending``."""
    leaves = relation.table.leaves
    failures = replace(leaves[-1], name=relation.ledger.failures)
    with_both = replace(relation, table=replace(relation.table, leaves=(*leaves, failures)))
    return queue.pending(
        connection,
        selection,
        scanned,
        over_queue=applied(connection, with_both, len(leaves) - 1),
        over_failures=applied(connection, with_both, len(leaves)),
    )


def with_failures(found: Survey, without: int, outdated: int) -> Survey:
    """Returns a survey that read no row that failed before with these: without a vector, and with an outdated one."""
    coverage = found.coverage
    filled = max(0, coverage.filled - without)
    return replace(found, coverage=replace(coverage, filled=filled, failed=without + outdated))


def with_queue(relation: Relation) -> Relation:
    """Returns a tracked target with its queue as one more leaf."""
    leaves = (*relation.table.leaves, queue.queue_leaf(relation))
    return replace(relation, table=replace(relation.table, leaves=leaves))
