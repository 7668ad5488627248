"""Changes what the ledger says of the origin of vectors, which stay as they are: adopts them, or distrusts them."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecfill.ledger import origins_sql
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.tracking import NESTED_LOOPS
from vecfill.postgres.transaction import transaction


def adopt(connection: Connection, relation: Relation, selection: Selection, leaf: Leaf, bounds: dict[str, str]) -> int:
    """Enters the vectors of unknown origin in a part of a leaf as this run's model's; returns their number."""
    query = origins_sql.adopt(selection, relation, leaf, tuple(bounds))
    parameters = tuple(bounds.values())
    with transaction(connection, relation.access.settings, first=query, parameters=parameters) as cursor:
        return int(cursor.rowcount)


def distrust(connection: Connection, relation: Relation, selection: Selection, keys: Sequence[tuple[str, ...]]) -> None:
    """Makes rows count as changed, and queues them for the next run.

    Args:
        connection: to the target's database.
        relation: the tracked target.
        selection: tells which rows have no vector: these are missing anyway.
        keys: of the rows: the key columns as text.
    """
    with transaction(connection, relation.access.settings | NESTED_LOOPS) as cursor:
        cursor.executemany(origins_sql.distrust(selection, relation), keys)


def forget_scans(connection: Connection, relation: Relation) -> None:
    """Has the next run read the target as a whole, and count anew the vectors of unknown origin."""
    query = sql.SQL(
        "UPDATE {} SET scanned = '{{}}', unknown = NULL WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4"
    ).format(relation.ledger.targets)
    with transaction(connection) as cursor:
        cursor.execute(query, (relation.ledger.id,))
