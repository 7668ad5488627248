"""The queue of changes: takes out what needs nothing, so that what remains is the work of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from vecfill.ledger import emptied_sql, failure_sql, pending_sql, queue_sql
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import Query
from vecfill.postgres.tracking import NESTED_LOOPS
from vecfill.postgres.transaction import transaction

PIECE_PAGES = 500
"""Heap pages of the queue that one statement works on: some 80,000 entries."""


Bounds = Mapping[str, Any]
"""Bounds of ``read_sql`` with their values."""

Apply = Callable[[int, int | None, Callable[[Bounds, Relation], int]], int]
"""Calls a function, which runs one statement, for the parts of a range of heap pages; returns the sum of its results.

Where a row cannot be read, it passes the target without the user's SQL."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The queue.

    Attributes:
        entries: its length.
        oldest_s: age of the oldest entry in seconds; None if it is empty.
        pages: of its heap, all of which a look at it reads.
    """

    entries: int
    oldest_s: float | None
    pages: int


def queue_of(connection: Connection, relation: Relation) -> Queue:
    """Returns how long the queue is."""
    rows = _run(connection, relation, queue_sql.length(relation))
    entries, oldest_s, size = rows[0]
    return Queue(entries=entries, oldest_s=oldest_s, pages=size // relation.access.server.block_bytes)


def pages_of(connection: Connection, relation: Relation) -> int:
    """Returns the heap pages of the queue."""
    size: int = _run(connection, relation, queue_sql.size(relation))[0][0]
    return size // relation.access.server.block_bytes


def vacuum(connection: Connection, relation: Relation) -> None:
    """Frees the pages of entries that are done, if this role owns the queue and nobody else does so right now."""
    connection.execute(sql.SQL("VACUUM (SKIP_LOCKED) {}").format(relation.ledger.changes))


def queue_leaf(relation: Relation) -> Leaf:
    """Returns the queue as something to scan beside the leaves of the target."""
    return Leaf(name=relation.ledger.changes, only=True, pages=0, queue=True)


def renew_failures(connection: Connection, relation: Relation) -> None:
    """Queues the failed rows that are to be tried again."""
    _run(connection, relation, failure_sql.queue_due(relation), fetch=False)


@dataclass(frozen=True, kw_only=True)
class Pending:
    """Rows that the queue and the failures name, in the states in which a settled queue would show them.

    Attributes:
        states: rows by state, without those of tables that are counted as a whole.
        noted: such tables' rows that their edit makes changed or emptied, though nobody knows their vector's origin.
        bytes: of the texts of ``states``.
    """

    states: Mapping[str, int]
    noted: Mapping[str, int]
    bytes: int


def pending(
    connection: Connection,
    selection: Selection,
    scanned: Sequence[int],
    *,
    over_queue: Apply,
    over_failures: Apply,
) -> Pending:
    """Counts what a run would take from the queue, and writes nothing.

    Args:
        connection: to the target's database.
        selection: the rows to take.
        scanned: oids of the tables that are counted as a whole.
        over_queue: runs a statement over the queue.
        over_failures: runs a statement over the table of failures.
    """
    found: list[tuple[Any, ...]] = []
    for apply, statement in ((over_queue, pending_sql.queued), (over_failures, pending_sql.retried)):

        def count(bounds: Bounds, some: Relation, statement: Any = statement) -> int:
            query = statement(selection, some, tuple(bounds), len(bounds) + 1)
            rows = _run(connection, some, query, (*bounds.values(), list(scanned)))
            found.extend(rows)
            return len(rows)

        apply(0, None, count)
    states, noted = Counter[str](), Counter[str]()
    for state, rows, _, is_scanned in found:
        (noted if is_scanned else states)[state] += rows
    return Pending(states=states, noted=noted, bytes=sum(size for _, _, size, is_scanned in found if not is_scanned))


def failures_waiting(connection: Connection, relation: Relation, selection: Selection) -> tuple[int, int]:
    """Returns how many rows that failed wait for their next attempt, without a vector and with an outdated one."""
    without, outdated = _run(connection, relation, failure_sql.count_waiting(selection, relation))[0]
    return int(without), int(outdated)


def settle(connection: Connection, relation: Relation, selection: Selection, apply: Apply) -> int:
    """Takes out of the queue what needs no vector, and clears the vectors of rows whose text became empty.

    Args:
        connection: to the target's database.
        relation: the tracked target.
        selection: of the missing and changed rows.
        apply: runs statements over the queue, around the entries of rows that cannot be read.

    Returns:
        The number of vectors cleared.
    """
    if not relation.access.policies:
        _run(connection, relation, queue_sql.forget_truncated(relation))

    moves = [at for (at,) in _run(connection, relation, queue_sql.moves(relation))]

    def note(bounds: Bounds, some: Relation) -> int:
        query = queue_sql.note_edits(selection, some, tuple(bounds))
        return len(_run(connection, some, query, tuple(bounds.values()), fetch=False))

    def clear(bounds: Bounds, some: Relation) -> int:
        query = emptied_sql.clear_emptied(selection, some, tuple(bounds))
        return int(_run(connection, some, query, tuple(bounds.values()), settings=relation.locking)[0][0])

    def take_out(bounds: Bounds, some: Relation) -> int:
        query = queue_sql.settle(selection, some, tuple(bounds))
        return int(_run(connection, some, query, (*bounds.values(), moves))[0][0])

    cleared, parts = 0, list(_parts(connection, relation))
    for first, end in parts:
        apply(first, end, note)
    _run(connection, relation, queue_sql.remove_repeated(relation), fetch=False)
    for first, end in parts:
        if not relation.table.vector.not_null:
            cleared += apply(first, end, clear)
        apply(first, end, take_out)
    return cleared


def queue_emptied(connection: Connection, selection: Selection, leaf: Leaf, apply: Apply) -> None:
    """Queues the rows of a leaf whose text became empty; ``apply`` runs a statement over the leaf."""

    def add(bounds: Bounds, some: Relation) -> int:
        query = emptied_sql.queue_emptied(selection, some, leaf, tuple(bounds))
        return len(_run(connection, some, query, tuple(bounds.values()), fetch=False))

    apply(0, None, add)


def _parts(connection: Connection, relation: Relation) -> Iterator[tuple[int, int | None]]:
    """Yields first and end page of the parts of the queue; the last has no end, for entries that come meanwhile."""
    starts = range(0, max(1, pages_of(connection, relation)), PIECE_PAGES)
    for start in starts:
        yield start, None if start == starts[-1] else start + PIECE_PAGES


def _run(
    connection: Connection,
    relation: Relation,
    query: Query,
    parameters: tuple[Any, ...] = (),
    *,
    settings: Mapping[str, str] | None = None,
    fetch: bool = True,
) -> list[tuple[Any, ...]]:
    settings = {**(settings or relation.access.settings), **NESTED_LOOPS}
    with transaction(connection, settings, first=query, parameters=parameters) as cursor:
        return cursor.fetchall() if fetch else []
