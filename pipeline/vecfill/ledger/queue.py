"""The queue of changes: takes out what needs nothing, so that what remains is the work of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vecfill.ledger import queue_sql
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.session import transaction
from vecfill.postgres.target_sql import Query
from vecfill.postgres.tracking import NESTED_LOOPS

PIECE_PAGES = 500
"""Heap pages of the queue that one statement works on: some 80,000 entries."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The queue's length in entries, and the age of its oldest entry in seconds; None if it is empty."""

    entries: int
    oldest_s: float | None


def queue_of(connection: Connection, relation: Relation) -> Queue:
    """Returns how long the queue is."""
    rows = _run(connection, relation, queue_sql.length(relation))
    return Queue(entries=rows[0][0], oldest_s=rows[0][1])


def queue_leaf(relation: Relation) -> Leaf:
    """Returns the queue as something to scan beside the leaves of the target."""
    return Leaf(name=relation.ledger.changes, only=True, pages=0, queue=True)


def renew_failures(connection: Connection, relation: Relation) -> None:
    """Queues the failed rows that are to be tried again."""
    _run(connection, relation, queue_sql.queue_due_failures(relation), fetch=False)


def settle(connection: Connection, relation: Relation, selection: Selection) -> int:
    """Takes out of the queue what needs no vector, and clears the vectors of rows whose text became empty.

    Args:
        connection: to the target's database.
        relation: the tracked target.
        selection: of the missing and changed rows.

    Returns:
        The number of vectors cleared.
    """
    if not queue_of(connection, relation).entries:
        return 0
    if not relation.access.policies:
        _run(connection, relation, queue_sql.forget_truncated(relation))
    _run(connection, relation, queue_sql.remove_repeated(relation), fetch=False)
    cleared = 0
    for bounds in _pieces(connection, relation):
        given, names = tuple(bounds.values()), tuple(bounds)
        _run(connection, relation, queue_sql.note_edits(selection, relation, names), given, fetch=False)
        if not relation.table.vector.not_null:
            query = queue_sql.clear_emptied(selection, relation, names)
            cleared += _run(connection, relation, query, given)[0][0]
        _run(connection, relation, queue_sql.settle(selection, relation, names), given)
    return cleared


def queue_emptied(connection: Connection, relation: Relation, selection: Selection, leaf: Leaf) -> None:
    """Queues the rows of a leaf whose text became empty."""
    _run(connection, relation, queue_sql.queue_emptied(selection, relation, leaf), fetch=False)


def _pieces(connection: Connection, relation: Relation) -> Iterator[dict[str, Any]]:
    """Yields the bounds of the parts of the queue; the last has no end, for entries that come meanwhile."""
    query = queue_sql.size(relation)
    pages = _run(connection, relation, query)[0][0] // relation.access.server.block_bytes
    starts = range(0, max(1, pages), PIECE_PAGES)
    for start in starts:
        bounds: dict[str, Any] = {"from": f"({start},0)"}
        yield bounds | ({} if start == starts[-1] else {"to": f"({start + PIECE_PAGES},0)"})


def _run(
    connection: Connection, relation: Relation, query: Query, parameters: tuple[Any, ...] = (), *, fetch: bool = True
) -> list[tuple[Any, ...]]:
    with transaction(connection, relation.access.settings | NESTED_LOOPS, first=query, parameters=parameters) as cursor:
        return cursor.fetchall() if fetch else []
