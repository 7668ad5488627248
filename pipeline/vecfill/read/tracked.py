"""A tracked target as the source of a run: reads what the queue of changes names, and what no queue covers as a whole.

A table or partition is read as a whole once, after tracking began or it was attached; until that found no eligible row,
its changes wait in the queue. After that the queue names all that a run has to read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vecfill.interruptible import Stopped
from vecfill.ledger import queue
from vecfill.ledger.registry import Tracked
from vecfill.ledger.target_notes import mark_scanned
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import EMPTIED, UNKNOWN, Selection
from vecfill.read.source import TableSource
from vecfill.read.survey import Survey, survey


@dataclass
class LedgerCounts:
    """What a run found in the ledger, and did there.

    Attributes:
        queued_before: entries of the queue when the run began.
        queued_after: entries of the queue at the last look.
        cleared: vectors cleared because their text became empty.
        unknown: vectors of unknown origin when the table was last read as a whole; None if it was not yet.
    """

    queued_before: int | None = None
    queued_after: int = 0
    cleared: int = 0
    unknown: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrackedSource(TableSource):
    """Surveys and reads a tracked target.

    Attributes:
        tracked: the target as the ledger describes it.
        changed: the selection of missing and changed rows, by which the queue is settled.
        to_scan: oids of the tables and partitions to read as a whole; emptied once that is done.
        counts: what the result of the run says of the ledger.
    """

    tracked: Tracked
    changed: Selection
    to_scan: set[int] = field(default_factory=set)
    counts: LedgerCounts = field(default_factory=LedgerCounts)

    @classmethod
    def of(cls, source: TableSource, tracked: Tracked, changed: Selection, *, whole: bool) -> TrackedSource:
        """Makes it from a source of the tracked relation; ``whole`` reads everything, whatever the queue names."""
        leaves = frozenset(leaf.oid for leaf in source.relation.table.leaves)
        return cls(
            session=source.session,
            relation=with_queue(source.relation),
            selection=source.selection,
            pieces=source.pieces,
            tracked=tracked,
            changed=changed,
            to_scan=set(leaves if whole or not tracked.trusted else leaves - tracked.scanned),
            counts=LedgerCounts(unknown=tracked.unknown),
        )

    def survey(
        self,
        *,
        exact: bool = False,
        excluded: tuple[str, ...] = (),
        earlier: Survey | None = None,
        stopped: Stopped | None = None,
    ) -> Survey:
        """Settles the queue and counts the rows to read, in the tables to read as a whole or in the queue.

        Raises:
            As ``TableSource.survey``.
        """

        def look(connection: Connection) -> Survey:
            return self._look(connection, exact=exact, excluded=excluded, earlier=earlier)

        return self.session.run(look, stopped=stopped)

    def _look(
        self, connection: Connection, *, exact: bool, excluded: tuple[str, ...], earlier: Survey | None
    ) -> Survey:
        if self.counts.queued_before is None:
            queue.renew_failures(connection, self.relation)
            self.counts.queued_before = queue.queue_of(connection, self.relation).entries
        scanned = None
        if self.to_scan:
            scanned = self._survey(connection, self._positions(), exact=exact, excluded=excluded, earlier=earlier)
            self._after_scan(connection, scanned)
        self.counts.cleared += queue.settle(connection, self.relation, self.changed)
        self.counts.queued_after = queue.queue_of(connection, self.relation).entries
        if scanned and scanned.eligible:
            return scanned
        last = len(self.relation.table.leaves) - 1
        if not self.counts.queued_after:
            return scanned or self._survey(connection, (), exact=False, excluded=excluded, earlier=earlier)
        queued = self._survey(connection, (last,), exact=False, excluded=excluded, earlier=earlier)
        return queued if queued.eligible or scanned is None else scanned

    def _survey(
        self,
        connection: Connection,
        leaves: tuple[int, ...],
        *,
        exact: bool,
        excluded: tuple[str, ...],
        earlier: Survey | None,
    ) -> Survey:
        return survey(
            connection,
            self.relation,
            self.selection,
            exact=exact,
            excluded=excluded,
            earlier=earlier,
            pieces=self.pieces,
            leaves=leaves,
        )

    def _positions(self) -> tuple[int, ...]:
        leaves = enumerate(self.relation.table.leaves)
        return tuple(position for position, leaf in leaves if leaf.oid in self.to_scan)

    def _after_scan(self, connection: Connection, found: Survey) -> None:
        """Queues the emptied rows, and notes it if the tables read as a whole hold no eligible row."""
        if found.states.get(EMPTIED):
            for position in self._positions():
                queue.queue_emptied(connection, self.relation, self.selection, self.relation.table.leaves[position])
        if found.eligible:
            return
        if self.selection.name != "missing":
            whole = len(self._positions()) == len(self.relation.table.leaves) - 1
            self.counts.unknown = found.states.get(UNKNOWN, 0) + (0 if whole else self.counts.unknown or 0)
            mark_scanned(connection, self.tracked, self.to_scan, self.counts.unknown)
        self.to_scan.clear()


def with_queue(relation: Relation) -> Relation:
    """Returns a tracked target with its queue as one more leaf."""
    leaves = (*relation.table.leaves, queue.queue_leaf(relation))
    return replace(relation, table=replace(relation.table, leaves=leaves))
