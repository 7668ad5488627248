"""What a queue table says of its target: entries by status, stuck ones, and the rows that it leaves out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vecfill.postgres import queue_table_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.queue_table import QueueTable
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.transaction import transaction
from vecfill.read.queue_coverage import overview, row_of

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
    rows = overview(connection, relation, selection)
    stuck, oldest = row_of(connection, relation, queue_table_sql.stuck(relation.queue_table))
    return QueueFindings(
        table=relation.queue_table.label,
        statuses=statuses(connection, relation),
        stuck=stuck,
        oldest_claim_s=oldest,
        lost=rows.lost if rows else None,
        unnamed=rows.unnamed if rows else None,
        indexed=relation.queue_table.indexed,
    )


def statuses(connection: Connection, relation: Relation) -> dict[str, int]:
    """Returns the number of entries by status, as the application's own monitoring counts them."""
    query = queue_table_sql.counts(relation.queue_table)
    with transaction(connection, relation.access.reading, read_only=True, first=query) as cursor:
        return dict(sorted((str(status), int(count)) for status, count in cursor.fetchall()))


def pending(connection: Connection, relation: Relation) -> int:
    """Returns the number of pending entries that a run may claim."""
    return int(row_of(connection, relation, queue_table_sql.pending(relation))[0])


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
