"""The vector indexes that a run has dropped and that wait to be built again, in the target's row of the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.ledger.layout_sql import SINCE_WAITING_INDEXES, upgrades
from vecfill.ledger.lease import lost
from vecfill.ledger.registry import ledger_version
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.index_sql import SavedIndex
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction


def check_holds_indexes(cursor: Cursor, schema: str) -> None:
    """Checks that the ledger can hold the definitions of indexes, or that this role may bring it up to date.

    Raises:
        ConfigError: it cannot, and only its owner may.
    """
    version = ledger_version(cursor, schema) or 0
    if version >= SINCE_WAITING_INDEXES:
        return
    row = cursor.execute(_OWNER, (schema,)).fetchone()
    if row is None or not row[0]:
        raise ConfigError(
            f"the ledger in schema {schema} is of version {version} and cannot hold the definition of an index: run "
            f"this once as {row[1] if row else 'its owner'}, or pass --index keep"
        )


def upgrade_ledger(cursor: Cursor, schema: str) -> None:
    """Brings the ledger up to date, in the caller's transaction."""
    for statement in upgrades(schema, ledger_version(cursor, schema) or 0):
        cursor.execute(statement, ())


_OWNER = """
SELECT pg_catalog.pg_has_role(n.nspowner, 'USAGE'), pg_catalog.pg_get_userbyid(n.nspowner)::pg_catalog.text
FROM pg_catalog.pg_namespace AS n WHERE n.nspname = $1::pg_catalog.name
"""


def note_waiting(
    cursor: Cursor, relation: Relation, change: Callable[[list[SavedIndex]], Sequence[SavedIndex]]
) -> None:
    """Changes the list of waiting indexes, in the caller's transaction.

    Args:
        cursor: in a transaction.
        relation: the target, with the lease of this run.
        change: returns the new list for the one in the ledger.

    Raises:
        LeaseError: another run has taken over.
    """
    tracking = relation.ledger
    names = {"targets": tracking.targets, "held": tracking.held}
    row = cursor.execute(sql.SQL(_WAITING).format(**names), (tracking.id,)).fetchone()
    if row is None:
        raise lost(relation)
    waiting = change([SavedIndex.of(one) for one in row[0] or ()])
    value = json.dumps([one.as_dict() for one in waiting]) if waiting else None
    cursor.execute(sql.SQL(_SET).format(**names), (tracking.id, value))


_WAITING = """
SELECT waiting_indexes FROM {targets} WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND {held} FOR NO KEY UPDATE
"""

_SET = """
UPDATE {targets} SET waiting_indexes = $2::pg_catalog.jsonb WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4
"""


def missing_indexes(cursor: Cursor, waiting: Sequence[SavedIndex]) -> list[SavedIndex]:
    """Returns those of the waiting indexes that do not exist, without the parts of partitioned ones.

    Args:
        cursor: in a transaction.
        waiting: from the ledger.
    """
    whole = (one for one in waiting if one.parent is None)
    return [one for one in whole if not cursor.execute(_EXISTS, (one.table_oid, one.schema, one.name)).fetchall()]


def still_missing(connection: Connection, waiting: Sequence[SavedIndex]) -> list[SavedIndex]:
    """``missing_indexes`` in a transaction of its own; none is needed where nothing waits."""
    if not waiting:
        return []
    with transaction(connection, read_only=True) as cursor:
        return missing_indexes(cursor, waiting)


def waits(one: SavedIndex, waiting: Sequence[SavedIndex]) -> str:
    """Returns the sentence that tells people of an index that waits; ``waiting`` has its parts too."""
    parts = [part for part in waiting if part.is_part_of(one)]
    statements = "; ".join(statement for index in (one, *parts) for statement in index.statements)
    return f"index {one.label} waits to be built again, since a run has dropped it: {statements}"


def check_none_waits(cursor: Cursor, waiting: Sequence[SavedIndex]) -> None:
    """Checks that no index would be forgotten.

    Raises:
        ConfigError: one waits to be built again.
    """
    for one in missing_indexes(cursor, waiting):
        raise ConfigError(f"{waits(one, waiting)}: run `vecfill run`, or these statements, first")


_EXISTS = """
SELECT FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.indrelid = $1::pg_catalog.oid AND n.nspname = $2::pg_catalog.name AND c.relname = $3::pg_catalog.name
  AND i.indisvalid AND i.indisready
"""
