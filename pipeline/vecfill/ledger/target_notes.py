"""What a run notes of its target as a whole: the tables that it has read, and the models that write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

from psycopg import sql

from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction


def mark_scanned(connection: Connection, relation: Relation, marks: Iterable[int], unknown: int) -> None:
    """Notes that the leaves with these marks were read as a whole, and found without an eligible row."""
    union = "scanned = ARRAY(SELECT pg_catalog.unnest(scanned) UNION SELECT pg_catalog.unnest($2::pg_catalog.oid[]))"
    _set(connection, relation, f"{union}, unknown = $3::pg_catalog.int8", sorted(marks), unknown)


def set_models(connection: Connection, relation: Relation, models: Sequence[int]) -> None:
    """Sets the models of the target's vectors, of those about to be written too."""
    _set(connection, relation, "models = $2::pg_catalog.int4[]", list(models))


def _set(connection: Connection, relation: Relation, assignments: LiteralString, *values: Any) -> None:
    """Changes the target's row if this run still holds the lease."""
    tracking = relation.ledger
    query = sql.SQL("UPDATE {} SET {} WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND {}").format(
        tracking.targets, sql.SQL(assignments), tracking.held
    )
    with transaction(connection) as cursor:
        cursor.execute(query, (tracking.id, *values))
