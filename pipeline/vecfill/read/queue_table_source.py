"""A target with a queue table as the source of a run: reads the rows that its pending entries name.

Between two streams of a run nothing is in flight, so a survey first puts back what the run had claimed and not settled,
and takes over what others abandoned. It settles the entries that need no vector, and counts the rest.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import psycopg
from psycopg import sql

from vecfill.errors import ServerGoneError, UnreachableError, VecfillError
from vecfill.job import Unit, Worker
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import MISSED, Selection
from vecfill.postgres.target_sql import where
from vecfill.read.look import Look, Lookout
from vecfill.read.queue_coverage import counted, estimated, overview
from vecfill.read.queue_findings import pending, statuses, warn_unknown
from vecfill.read.queue_table_reader import QueueTableReader
from vecfill.read.queue_units import next_entries
from vecfill.read.queue_upkeep import QueueCounts, put_back, settle_needless
from vecfill.read.reader import Reader
from vecfill.read.source import TableSource
from vecfill.read.survey import Survey, survey
from vecfill.read.units import MAX_BLOCK_BYTES, block_rows, plan_units

log = logging.getLogger(__name__)

COUNTED_PAGES, PAGES_PER_ROW = 10_000, 4
"""Heap pages of a target (80 MB, some 50 ms) up to which the rows that the queue table leaves out are counted, and how
many more may be read for each row to embed: the run then takes much longer than the count."""


@dataclass(frozen=True, kw_only=True)
class QueueTableSource(TableSource):
    """Surveys and reads a target with a queue table, whose last leaf that is.

    Attributes:
        missing: the selection of the rows without a vector.
        counts: what the result of the run says of the queue table.
    """

    remembers_failures: ClassVar[bool] = True
    missing: Selection
    counts: QueueCounts

    @classmethod
    def of(cls, source: TableSource, missing: Selection) -> QueueTableSource:
        """Makes it from a source of a relation with a queue table."""
        return cls(
            session=source.session,
            relation=_with_leaf(source.relation),
            selection=source.selection,
            pieces=source.pieces,
            missing=missing,
            counts=QueueCounts(table=source.relation.queue_table.label),
        )

    def at(self, relation: Relation) -> Self:
        """Returns the same source of the target as it is now."""
        return replace(self, relation=_with_leaf(relation), lookout=Lookout())

    def look(self, excluded: tuple[str, ...] = ()) -> Look:
        """Looks for an entry that waits or is stuck; ``excluded`` says nothing here."""
        return self.session.run(lambda connection: self.lookout.look_at_queue(connection, self.relation))

    def _surveyed(
        self, connection: Connection, *, exact: bool, excluded: tuple[str, ...], earlier: Survey | None
    ) -> Survey:
        """Tidies the queue table, and counts the rows that its pending entries name."""
        if self.counts.before is None:
            self.counts.before = statuses(connection, self.relation)
            warn_unknown(self.relation.queue_table, self.counts.before)
        put_back(connection, self.relation, self.relation.queue_table.is_claimed)
        self.counts.taken_over += put_back(connection, self.relation, self.relation.queue_table.is_abandoned)
        named = self._named(connection, excluded=excluded, earlier=earlier)
        if named.eligible != pending(connection, self.relation):  # else each entry is of a row to read
            for reason, count in settle_needless(connection, self.relation, self.missing).items():
                self.counts.settled[reason] += count
            named = self._named(connection, excluded=excluded, earlier=earlier)
        return self._with_the_rest(connection, named, excluded, earlier)

    def dry_survey(self) -> Survey:
        """Counts what a survey of a run would find, and leaves the queue table as it is.

        Raises:
            As ``TableSource.survey``.
        """
        queue = replace(self.relation.queue_table, taking_over=True)
        source = replace(self, relation=replace(self.relation, queue=queue))

        def look(connection: Connection) -> Survey:
            return source._with_the_rest(connection, source._named(connection, excluded=(), earlier=None), (), None)

        return self.session.run(look)

    def _named(self, connection: Connection, *, excluded: tuple[str, ...], earlier: Survey | None) -> Survey:
        """Surveys the rows that pending entries name."""
        return self._counted(connection, excluded=excluded, earlier=earlier, leaves=(self._last,))

    def plan(
        self, found: Survey, *, limit: int | None, most_rows: int, excluded: tuple[str, ...] = ()
    ) -> Sequence[Unit]:
        """Splits the entries into units of equal numbers; the rows that no open entry names follow, if wanted.

        Several entries may name one row, so a unit may find fewer rows than it claims entries.

        Raises:
            StoppedError, TableLockedError, ServerGoneError: as ``survey``.
        """
        named = [bucket for bucket in found.buckets if bucket.leaf == self._last]
        rows, size = sum(bucket.rows for bucket in named), sum(bucket.bytes for bucket in named)
        wanted = rows if limit is None else min(rows, limit)
        aim = max(1, min(block_rows(wanted, most_rows), MAX_BLOCK_BYTES * max(rows, 1) // max(size, 1)))
        entries = self._pending(rows) if wanted else 0
        units = next_entries(
            self._last, entries=entries, rows=rows, wanted=wanted, limited=limit is not None, aim=aim, excluded=excluded
        )
        others = [bucket for bucket in found.buckets if bucket.leaf != self._last]
        left = None if limit is None else limit - wanted
        return [*units, *plan_units(others, left, most_rows, excluded)]

    def _pending(self, rows: int) -> int:
        """Pending entries, of which there are at least as many as rows that they name."""
        return max(rows, self.session.run(lambda connection: pending(connection, self.relation)))

    def reader(self, worker: Worker) -> QueueTableReader:
        """Returns the read stage of one worker."""
        read, read_rest = (
            Reader(self.session, relation, self.selection, worker)
            for relation in (self.relation, _rest_of(self.relation))
        )
        return QueueTableReader(self.session, self.relation, read, read_rest, worker)

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Puts back, at the end of the body, what the run had claimed and not settled, as after a stop."""
        try:
            yield
        except (ServerGoneError, UnreachableError):
            raise
        except BaseException:
            try:
                self.session.finish(self._end)
            except (VecfillError, psycopg.Error) as error:
                log.warning(
                    "claimed entries of %s stay processing until they count as stuck: %s",
                    *(self.counts.table, server_message(error)),
                )
            raise
        self.session.finish(self._end)

    def _end(self, connection: Connection) -> None:
        put_back(connection, self.relation, self.relation.queue_table.is_claimed)
        self.counts.after = statuses(connection, self.relation)
        _, processing, *_ = self.relation.queue_table.words
        self.counts.held = self.counts.after.get(processing, 0)

    @property
    def _last(self) -> int:
        """Position of the queue table among the leaves."""
        return len(self.relation.table.leaves) - 1

    def _counts_all(self, named: Survey, earlier: Survey | None) -> bool:
        """Whether to scan the table for what the queue table leaves out; in all surveys of a run or in none."""
        if earlier is not None:
            return earlier.coverage.unqueued is not None
        pages = sum(leaf.pages for leaf in self.relation.table.leaves)
        return pages <= COUNTED_PAGES + PAGES_PER_ROW * named.eligible

    def _with_the_rest(
        self, connection: Connection, named: Survey, excluded: tuple[str, ...], earlier: Survey | None
    ) -> Survey:
        """Adds the rows without a vector that no open entry names: as work if they are wanted, else as a count."""
        rest = None
        if self.relation.queue_table.rest:
            others, relation = tuple(range(self._last)), _rest_of(self.relation)
            rest = survey(connection, relation, self.missing, excluded=excluded, pieces=self.pieces, leaves=others)
        rows = overview(connection, self.relation, self.missing) if self._counts_all(named, earlier) else None
        if rows is None:
            coverage = estimated(connection, self.relation, named.coverage)
        else:
            coverage = counted(named.coverage, rows)
            self.counts.lost, self.counts.unnamed = rows.lost, rows.unnamed
        if rest and coverage.unqueued:
            coverage = replace(coverage, unqueued=max(0, coverage.unqueued - rest.coverage.missing))
        if rest is None:
            return replace(named, coverage=coverage)
        return replace(
            named,
            coverage=replace(coverage, missing=coverage.missing + rest.coverage.missing),
            buckets=(*named.buckets, *rest.buckets),
            states=Counter(named.states) + Counter({MISSED: rest.states.get(MISSED, 0)}),
        )


def _with_leaf(relation: Relation) -> Relation:
    """Returns a target with its queue table as one more leaf."""
    leaf = Leaf(name=relation.queue_table.name, only=True, pages=0, queue=True)
    return replace(relation, table=replace(relation.table, leaves=(*relation.table.leaves, leaf)))


def _rest_of(relation: Relation) -> Relation:
    """Returns the target without the rows that an entry names which is not done."""
    queue = relation.queue_table
    done = sql.SQL("false") if queue.done is None else queue.has_status(queue.done)
    condition = sql.SQL("{} AND NOT {}").format(
        where(relation), queue.row_has(relation.table.alias, sql.SQL("NOT ({})").format(done))
    )
    return replace(relation, user_sql=replace(relation.user_sql, where=condition))
