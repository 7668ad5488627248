"""Builds the vector indexes again that a run has dropped: this one, or one that died before it could."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import psycopg

from vecfill.config.migrate import IndexOptions, LockOptions
from vecfill.errors import StoppedError, VecfillError
from vecfill.indexing.build import build_index
from vecfill.indexing.dropping import EMPTY_PATH
from vecfill.indexing.index_state import attach
from vecfill.indexing.present import in_its_place, located, new_parts
from vecfill.ledger.waiting_indexes import note_waiting
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.index_sql import SavedIndex, WantedIndex
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import Session
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

BUILT, PRESENT, WAITING = "built", "present", "waiting"
"""It was built; somebody else had built it; it still waits."""


@dataclass(frozen=True, kw_only=True)
class RebuiltIndex:
    """An index that a run has dropped, at the end of this run.

    Attributes:
        name: with its schema; ``table`` is the table or partition.
        definition: as it was.
        state: built, present (somebody else had built it), or waiting.
        seconds: that this took.
        serial: without parallel workers, since the server's shared memory was too small for them.
        error: why it still waits; None if it does not, or if this role may not build it.
    """

    name: str
    table: str
    definition: str
    state: str
    seconds: float = 0.0
    serial: bool = False
    error: str | None = None


def rebuild_indexes(
    database: Database,
    relation: Relation,
    *,
    options: IndexOptions,
    locks: LockOptions,
    stopped: Callable[[], bool],
) -> tuple[RebuiltIndex, ...]:
    """Builds the waiting indexes of a target, and forgets those that then exist. May be repeated after any fault.

    A build that fails is no error of this function: the index goes on waiting, and its result says why.

    Args:
        database: of the target.
        relation: the target, with the lease of the run.
        options: memory and workers.
        locks: how long to wait for the table when an index of a partition is attached.
        stopped: whether to leave the rest to the next run.

    Raises:
        LeaseError: another run has taken over.
        VecfillError: the ledger cannot be read.
    """
    with closing(Session(database)) as session:
        waiting = session.run(lambda connection: located(connection, relation))
        owns = session.run(lambda connection: _owns(connection, relation))
    if not owns:
        role = relation.access.server.role
        return waiting_results(waiting, f"role {role} does not own {relation.table.label}", tried=False)
    names = frozenset(one.label for one in waiting)
    return tuple(
        one
        for family in _families(waiting)
        for one in _rebuilt(database, relation, family, names, options=options, locks=locks, stopped=stopped)
    )


def _owns(connection: Connection, relation: Relation) -> bool:
    with transaction(connection, read_only=True) as cursor:
        row = cursor.execute(_OWNS, (relation.table.oid,)).fetchone()
    return bool(row and row[0])


_OWNS = "SELECT pg_catalog.pg_has_role(relowner, 'USAGE') FROM pg_catalog.pg_class WHERE oid = $1::pg_catalog.oid"


def _families(waiting: Sequence[SavedIndex]) -> list[list[SavedIndex]]:
    """The indexes of a partitioned table together with those of its partitions; each other alone."""
    families: list[list[SavedIndex]] = []
    for one in waiting:
        home = next((members for members in families if any(one.is_part_of(other) for other in members)), None)
        if home is None:
            families.append([one])
        else:
            home.append(one)
    return families


def _rebuilt(
    database: Database,
    relation: Relation,
    family: list[SavedIndex],
    names: frozenset[str],
    *,
    options: IndexOptions,
    locks: LockOptions,
    stopped: Callable[[], bool],
) -> Iterator[RebuiltIndex]:
    started, done = time.perf_counter(), dict[str, RebuiltIndex]()
    try:
        with closing(Session(database, stopped=stopped)) as session:
            for one in family:
                done[one.label] = _built(session, one, names, options)
            parts = _with_new_parts(session, [one for one in family if done[one.label].state == BUILT], options)
            for part in sorted((one for one in parts if one.parent), key=lambda one: one.partitioned):
                session.run(lambda connection, part=part: attach(connection, part, locks.lock_timeout))  # type: ignore[misc]
            session.run(lambda connection: _settle(connection, relation, family))
    except (VecfillError, psycopg.Error) as error:
        reason = "the run was stopped" if isinstance(error, StoppedError) else server_message(error)
        for one in family:
            _say_waiting(one, reason)
            seconds = round(time.perf_counter() - started, 3)
            yield RebuiltIndex(
                name=one.label, table=one.table, definition=one.definition, state=WAITING, seconds=seconds, error=reason
            )
        return
    yield from done.values()


def _built(session: Session, one: SavedIndex, names: frozenset[str], options: IndexOptions) -> RebuiltIndex:
    started, serial = time.perf_counter(), False
    other = session.run(lambda connection: in_its_place(connection, one, names))
    if other is None:
        made, serial = build_index(session, one, options, "since a run has dropped it")
    else:
        made = False
        log.info("index %s is not built again: %s on %s is in its place", one.label, other, one.table)
    seconds = round(time.perf_counter() - started, 3)
    if made and not one.partitioned:
        how = ", without parallel workers" if serial else ""
        log.info("index %s is built again, in %.1f s%s", one.label, seconds, how, extra={"event": "index-built"})
    return RebuiltIndex(
        name=one.label,
        table=one.table,
        definition=one.definition,
        state=PRESENT if other else BUILT,
        seconds=seconds,
        serial=serial,
    )


def _with_new_parts(session: Session, built: Sequence[SavedIndex], options: IndexOptions) -> list[WantedIndex]:
    """Builds the index on partitions that came while it was gone; returns all that are to be attached."""
    found: list[WantedIndex] = list(built)
    for one in found:  # which grows by the frames of new partitioned partitions
        if one.partitioned:
            for part in session.run(lambda connection, one=one: new_parts(connection, one, found)):  # type: ignore[misc]
                build_index(session, part, options, f"as a part of {one.name}")
                found.append(part)
    return found


def _settle(connection: Connection, relation: Relation, family: list[SavedIndex]) -> None:
    """Restores what a definition does not say, and takes the indexes off the list."""
    names = {one.label for one in family}
    with transaction(connection, EMPTY_PATH) as cursor:
        for statement in (statement for one in family for statement in one.afterwards):
            try:
                with connection.transaction():
                    cursor.execute(statement.encode(), ())
            except psycopg.Error as error:
                log.warning("%s; not done: %s", server_message(error), statement)
        note_waiting(cursor, relation, lambda waiting: [one for one in waiting if one.label not in names])


def _say_waiting(one: SavedIndex, reason: str) -> None:
    if one.parent is None:
        log.error(
            "index %s waits to be built again (%s): the next `vecfill run` of this target does it, or: %s",
            *(one.label, reason, "; ".join(one.statements)),
            extra={"index": one.label, "ddl": one.definition, "event": "index-waits"},
        )


def waiting_results(waiting: Sequence[SavedIndex], reason: str, *, tried: bool = True) -> tuple[RebuiltIndex, ...]:
    """Says that indexes wait, and returns that as results; not as errors unless it was ``tried`` to build them."""
    for one in waiting:
        _say_waiting(one, reason)
    return tuple(
        RebuiltIndex(
            name=one.label, table=one.table, definition=one.definition, state=WAITING, error=reason if tried else None
        )
        for one in waiting
    )
