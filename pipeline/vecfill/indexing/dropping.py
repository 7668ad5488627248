"""Drops the vector indexes of a target for a run, after their definitions went into the ledger: all or none."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from typing import Any

import psycopg
from psycopg import sql

from vecfill.config.migrate import LockOptions
from vecfill.errors import ConfigError
from vecfill.ledger.migrations import check_no_migration
from vecfill.ledger.waiting_indexes import check_holds_indexes, note_waiting, upgrade_ledger
from vecfill.migration.brief_lock import under_lock
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.index_sql import VECTOR_INDEXES, SavedIndex, drop_vector_index, saved_index
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import Session
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

EMPTY_PATH = {"search_path": ""}
"""With it the server writes names in definitions with their schema."""


def check_rebuildable(connection: Connection, relation: Relation) -> list[SavedIndex]:
    """Checks that this role may drop the vector indexes of a tracked target and build them again; changes no index.

    Indexes that are unique, back a constraint or identify rows for replication, as an extension may offer them, stay.

    Returns:
        The others.

    Raises:
        ConfigError: it may not; a migration of the column is in progress; the ledger cannot hold their definitions.
    """
    names = {(index.table, index.name) for index in relation.table.indexes if index.is_for_vectors}
    with transaction(connection, EMPTY_PATH, read_only=True) as cursor:
        rows = _rows(cursor, relation, names)
    for row in rows:
        *_, constraint, owns, owner, may_create = row
        label, role = f"{row[1]}.{row[0]}", relation.access.server.role
        if constraint:
            log.info("index %s backs a constraint, so it stays", label)
        elif not owns:
            raise ConfigError(
                f"--index rebuild drops index {label} and builds it again, and role {role} does not own it: run it as "
                f"{owner}, or pass --index keep"
            )
        elif not may_create:
            raise ConfigError(
                f"--index rebuild builds index {label} again, and role {role} may not in schema {row[1]}: GRANT CREATE "
                f"ON SCHEMA {sql.Identifier(row[1]).as_string()} TO {sql.Identifier(role).as_string()}"
            )
    found = [saved_index(row) for row in rows if not row[-4]]
    if found:
        _check_no_migration(connection, relation)
        with transaction(connection, read_only=True) as cursor:
            check_holds_indexes(cursor, relation.ledger.schema)
    return found


def _check_no_migration(connection: Connection, relation: Relation) -> None:
    schema = relation.ledger.schema
    try:
        with transaction(connection, read_only=True) as cursor:
            check_no_migration(cursor, schema, relation.ledger.id)
    except psycopg.errors.InsufficientPrivilege as error:
        role = sql.Identifier(relation.access.server.role).as_string()
        raise ConfigError(
            f"{server_message(error)}: --index rebuild needs to know whether a migration is in progress: GRANT SELECT "
            f"ON {sql.Identifier(schema, 'migration').as_string()} TO {role}, or pass --index keep"
        ) from error


def drop_indexes(
    session: Session, relation: Relation, indexes: Sequence[SavedIndex], locks: LockOptions
) -> tuple[SavedIndex, ...]:
    """Notes vector indexes of a target in its ledger, as they are now, and drops them, in one transaction.

    Args:
        session: of the run.
        relation: the target, with the lease of the run.
        indexes: of ``check_rebuildable``.
        locks: how long to wait for the table.

    Returns:
        The indexes as they were.

    Raises:
        TableLockedError: the table stayed locked; nothing was changed.
        LeaseError: another run has taken over; nothing was changed.
    """
    found: list[SavedIndex] = []
    names = {(one.table_oid, one.name) for one in indexes}

    def work(cursor: Cursor) -> Sequence[sql.Composed]:
        cursor.execute("SET LOCAL search_path TO ''", ())
        upgrade_ledger(cursor, relation.ledger.schema)
        found[:] = [saved_index(row) for row in _rows(cursor, relation, names)]
        labels = {one.label for one in found}
        note_waiting(cursor, relation, lambda waiting: [*(one for one in waiting if one.label not in labels), *found])
        return [drop_vector_index(one) for one in found if one.parent is None]

    under_lock(session, relation, locks, work, verb="parted from its vector indexes")
    for one in found:
        if one.parent is None:
            log.warning(
                "index %s is dropped for this run and built again after it; its definition is in the ledger (table "
                "%s.target): until then searches read every vector, so they are exact, and slower",
                *(one.label, relation.ledger.schema),
                extra={"index": one.label, "ddl": one.definition, "event": "index-dropped"},
            )
    return tuple(found)


def _rows(cursor: Cursor, relation: Relation, names: Set[tuple[int, str]]) -> list[tuple[Any, ...]]:
    rows = cursor.execute(VECTOR_INDEXES, (list(relation.table.tree),)).fetchall()
    return [row for row in rows if (row[3], row[0]) in names]
