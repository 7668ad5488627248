"""What a run notes of its target as a whole: the tables that it has read, and the models that write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

from psycopg import sql

from vecfill.ledger.registry import Tracked
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import transaction


def mark_scanned(connection: Connection, tracked: Tracked, leaves: Iterable[int], unknown: int) -> None:
    """Notes that these tables were read as a whole, and found without an eligible row; only the lease's holder may."""
    scanned = sorted(tracked.captured[leaf] for leaf in {*tracked.scanned, *leaves} & tracked.captured.keys())
    _set(
        connection, tracked.relation, "scanned = $2::pg_catalog.oid[], unknown = $3::pg_catalog.int8", scanned, unknown
    )


def set_models(connection: Connection, relation: Relation, models: Sequence[int]) -> None:
    """Sets the models of the target's vectors, of those about to be written too; only the lease's holder may."""
    _set(connection, relation, "models = $2::pg_catalog.int4[]", list(models))


def _set(connection: Connection, relation: Relation, assignments: LiteralString, *values: Any) -> None:
    tracking = relation.ledger
    held = sql.SQL("true") if tracking.holder is None else tracking.held
    query = sql.SQL("UPDATE {} SET {} WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND {}").format(
        tracking.targets, sql.SQL(assignments), held
    )
    with transaction(connection) as cursor:
        cursor.execute(query, (relation.ledger.id, *values))
