"""``--order-by``: checked before the first row is read, and its cost said."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from psycopg import sql

from vecfill.backfill.checks import understood
from vecfill.errors import ConfigError
from vecfill.postgres import order_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.template import verbatim_sql
from vecfill.postgres.transaction import transaction
from vecfill.read.source import TableSource
from vecfill.read.survey import Survey

log = logging.getLogger(__name__)


def keys(order_by: str | None) -> sql.Composable | None:
    """Returns what follows ORDER BY; None for the order of the table."""
    return verbatim_sql(order_by) if order_by is not None else None


def check_order(connection: Connection, relation: Relation, selection: Selection, order: sql.Composable | None) -> None:
    """Plans the order, alone and as we embed it; the server runs nothing.

    Raises:
        ConfigError: it is no list of sort keys over a row of the target, or a queue table has an order of its own.
    """
    if order is None:
        return
    if relation.queue is not None:
        raise ConfigError(
            f"--order-by sorts rows of {relation.table.label}, and entries of {relation.queue.label} have an order of "
            "their own: use --queue-order"
        )
    complaint = f"--order-by does not work as SQL sort keys on {relation.table.label}"
    with (
        transaction(connection, relation.access.reading, read_only=True) as cursor,
        understood(complaint, "correct it"),
    ):
        for query in order_sql.order_checks(selection, relation, order):
            cursor.execute(query, ())


def log_sort(connection: Connection, source: TableSource, found: Survey, limit: int | None) -> None:
    """Logs that the server will sort the rows that were found in the table; those of a queue are few."""
    relation = source.relation
    if source.order is None or all(relation.table.leaves[bucket.leaf].queue for bucket in found.buckets):
        return
    query = order_sql.explain(source.selection, relation, source.order, limit)
    with transaction(connection, relation.access.reading, read_only=True, first=query, parameters=()) as cursor:
        row = cursor.fetchone()
    if row is not None and "Sort" in _node_types(row[0][0]["Plan"]):
        log.info(
            "--order-by: the server finds and sorts all %s eligible rows before the first is read",
            f"{found.eligible:,}",
            extra={"target": relation.table.label, "rows": found.eligible},
        )


def _node_types(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["Node Type"]
    for child in plan.get("Plans", ()):
        yield from _node_types(child)
