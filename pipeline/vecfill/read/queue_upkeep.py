"""Keeps a queue table true between two streams of a run, when nothing of the run is in flight.

Claims that the run has not settled go back to pending, and so do those that others abandoned; entries that need no
vector are settled.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

from psycopg import sql

from vecfill.ledger.queue import Bounds
from vecfill.postgres import queue_put_back_sql, queue_settle_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import Query
from vecfill.postgres.transaction import transaction
from vecfill.read.pieces import applied

log = logging.getLogger(__name__)

TURNS = 3
"""Statements that put entries back, at most: with one pending entry per key, each may leave some to the next."""


@dataclass
class QueueCounts:
    """What a run found in the queue table, and did there.

    Attributes:
        table: ``schema.table`` of the queue table.
        before, after: entries by status, when the run began and when it ended.
        taken_over: entries that were processing for too long.
        held: processing entries at the end, which others claimed, or a run that died.
        settled: entries that needed no vector, by reason: their row is gone, empty, or filled.
        lost: rows with a text and without a vector whose entries are all done; None if they were not counted.
        unnamed: such rows that no entry names.
    """

    table: str
    before: dict[str, int] | None = None
    after: dict[str, int] | None = None
    taken_over: int = 0
    held: int = 0
    settled: dict[str, int] = field(default_factory=lambda: dict.fromkeys(queue_settle_sql.NEEDLESS, 0))
    lost: int | None = None
    unnamed: int | None = None


def put_back(connection: Connection, relation: Relation, condition: sql.Composable) -> int:
    """Puts the entries that meet a condition back to pending; returns their number.

    Where an index allows one pending entry per key, the others of that key are settled: the pending one stands for
    them.
    """
    queue, changed = relation.queue_table, 0
    for _ in range(TURNS if queue.single else 1):
        if queue.single:
            changed += _change(connection, relation, queue_put_back_sql.close_repeated(queue, condition))
        back = _change(connection, relation, queue_put_back_sql.put_back(queue, condition))
        changed += back
        if not back:
            break
    return changed


def settle_needless(connection: Connection, relation: Relation, missing: Selection) -> Counter[str]:
    """Settles the pending entries whose row needs no vector; returns their number by reason.

    Args:
        connection: to the target's database.
        relation: the target, with its queue table as the last leaf.
        missing: the selection of rows without a vector.
    """
    settled = Counter[str]()

    def settle(bounds: Bounds, some: Relation) -> int:
        query = queue_settle_sql.settle_needless(missing, some, tuple(bounds))
        settings, parameters = some.changing_entries, tuple(bounds.values())
        with transaction(connection, settings, first=query, parameters=parameters) as cursor:
            settled.update(dict(cursor.fetchall()))
        return 0

    applied(connection, relation, len(relation.table.leaves) - 1)(0, None, settle)
    if settled:
        label = relation.queue_table.label
        log.info(
            "entries of %s that needed no vector: %s",
            *(label, ", ".join(f"{count:,} {reason}" for reason, count in sorted(settled.items()))),
            extra={"queue_table": label, **settled},
        )
    return settled


def _change(connection: Connection, relation: Relation, query: Query) -> int:
    with transaction(connection, relation.changing_entries, first=query) as cursor:
        return cursor.rowcount
