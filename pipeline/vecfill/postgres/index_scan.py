"""Scans of a vector index: how far they go, and whether a plan has one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg

from vecfill.errors import ConfigError
from vecfill.postgres import search_sql
from vecfill.postgres.database import Cursor
from vecfill.postgres.relation import Relation
from vecfill.postgres.search_sql import Measure
from vecfill.postgres.target_sql import Query
from vecfill.postgres.transaction import set_local


def configure_scan(cursor: Cursor, schema: str, limit: int) -> None:
    """Has index scans of this transaction continue until ``limit`` rows are found.

    Raises:
        ConfigError: this role may not use pgvector's schema.
    """
    try:
        cursor.execute(search_sql.load_pgvector(schema), ())
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"pgvector compares the vectors: {error.diag.message_primary}: GRANT USAGE ON SCHEMA {schema} to this role"
        ) from error
    known: dict[str, str] = dict(cursor.execute(search_sql.SETTINGS, (search_sql.SCAN_SETTINGS,)).fetchall())
    set_local(cursor.connection, search_sql.scan_settings(known, limit))


def index_used(
    cursor: Cursor, query: Query, values: tuple[Any, ...], relation: Relation, measure: Measure
) -> str | None:
    """Returns the index that orders the plan; for a partitioned table, the parent's index instead of a partition's."""
    row = cursor.execute(search_sql.explain(query), values).fetchone()
    plan = json.loads(row[0]) if row and isinstance(row[0], str) else row[0] if row else []
    used = sorted(node["Index Name"] for node in _nodes(plan[0]["Plan"]) if "Order By" in node)
    return (used[0] if relation.table.plain else measure.index) if used else None


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
