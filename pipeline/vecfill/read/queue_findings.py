"""What a queue table says of its target: entries by status, stuck ones, and the rows that it leaves out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from vecfill.postgres import queue_table_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.queue_table import QueueTable
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.session import transaction
from vecfill.postgres.target_sql import Query
from vecfill.read.survey import Coverage
from vecfill.read.unreadable_rows import is_row_fault

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class QueueFindings:
    """Counts of the queue table, and of the rows without a vector that no open entry names.

    Attributes:
        table: ``schema.table`` of the queue table.
        statuses: entries by status, as text.
        stuck: processing entries that a run would take over.
        oldest_claim_s: age of the oldest claim of a processing entry in seconds; None without a column for it.
        lost: rows with a text and without a vector whose entries are all done; None if they were not counted.
        unnamed: such rows that no entry names.
        indexed: an index finds the entries of a key; without one each batch reads the whole queue table.
    """

    table: str
    statuses: dict[str, int]
    stuck: int
    oldest_claim_s: float | None
    lost: int | None
    unnamed: int | None
    indexed: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def queue_findings(connection: Connection, relation: Relation, selection: Selection) -> QueueFindings:
    """Looks at the queue table of a target and, in one scan of it, at its rows without a vector.

    Args:
        connection: to the target's database.
        relation: the target, of ``queue_introspect.with_queue_table``.
        selection: of the missing rows.
    """
    lost, unnamed = left_out(connection, relation, selection)
    stuck, oldest = _row(connection, relation, queue_table_sql.stuck(relation.queue_table))
    return QueueFindings(
        table=relation.queue_table.label,
        statuses=statuses(connection, relation),
        stuck=stuck,
        oldest_claim_s=oldest,
        lost=lost,
        unnamed=unnamed,
        indexed=relation.queue_table.indexed,
    )


def statuses(connection: Connection, relation: Relation) -> dict[str, int]:
    """Returns the number of entries by status, as the application's own monitoring counts them."""
    query = queue_table_sql.counts(relation.queue_table)
    with transaction(connection, relation.access.reading, read_only=True, first=query) as cursor:
        return dict(sorted((str(status), int(count)) for status, count in cursor.fetchall()))


def pending(connection: Connection, relation: Relation) -> int:
    """Returns the number of pending entries that a run may claim."""
    return int(_row(connection, relation, queue_table_sql.pending(relation))[0])


def warn_unknown(queue: QueueTable, statuses: Mapping[str, int]) -> None:
    """Warns about entries whose status none of the settings names: a run leaves them alone."""
    unknown = {status: count for status, count in statuses.items() if status not in queue.words}
    if unknown:
        log.warning(
            "entries of %s with a status that no setting names are left alone: %s; the settings name %s",
            *(queue.label, ", ".join(f"{count:,} {status}" for status, count in unknown.items())),
            ", ".join(queue.words),
            extra={"queue_table": queue.label, "statuses": unknown},
        )


def with_estimate(connection: Connection, relation: Relation, coverage: Coverage) -> Coverage:
    """Returns a coverage with the planner's estimate of the rows with a vector; the others are not counted."""
    table = relation.table
    query = queue_table_sql.null_fraction(relation)
    with transaction(connection, relation.access.reading, read_only=True, first=query) as cursor:
        row = cursor.fetchone()
    if row is None or table.vector.not_null:
        return replace(coverage, unqueued=None)
    without = round(coverage.total * float(row[0])) - coverage.missing - coverage.empty
    return replace(coverage, filled=max(0, coverage.filled - max(0, without)), unqueued=None)


def left_out(connection: Connection, relation: Relation, selection: Selection) -> tuple[int | None, int | None]:
    """Returns how many rows without a vector have only entries that are done, and how many no entry at all.

    Both None if the user's SQL fails on a row.
    """
    try:
        lost, unnamed = _row(connection, relation, queue_table_sql.left_out(selection, relation))
    except Exception as error:
        if not is_row_fault(error):
            raise
        return None, None
    return lost, unnamed


def _row(connection: Connection, relation: Relation, query: Query) -> tuple[Any, ...]:
    with transaction(connection, relation.access.reading, read_only=True, first=query) as cursor:
        return cursor.fetchall()[0]
