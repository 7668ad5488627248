"""The models of a ledger: each fingerprint has a number, and no two meet in one column unnoticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from psycopg import sql

from vecfill.ledger.registry import Tracked
from vecfill.ledger.target_notes import set_models
from vecfill.postgres.database import Connection
from vecfill.postgres.session import transaction
from vecfill.postgres.target_sql import embedding, target
from vecfill.postgres.tracking import UNKNOWN_MODEL


def model_number(connection: Connection, schema: str, digest: str, name: str, details: Mapping[str, Any]) -> int:
    """Returns the number of a model in the ledger; registers it at first use.

    Args:
        connection: to the target's database.
        schema: of the ledger.
        digest: of the model's fingerprint.
        name: of the model, for messages.
        details: the fingerprint spelled out.
    """
    table = sql.Identifier(schema, "model")
    insert = sql.SQL(
        "INSERT INTO {} (fingerprint, name, details) VALUES ($1, $2, $3::pg_catalog.jsonb) ON CONFLICT DO NOTHING"
    ).format(table)
    find = sql.SQL("SELECT id FROM {} WHERE fingerprint OPERATOR(pg_catalog.=) $1::pg_catalog.text").format(table)
    with transaction(connection) as cursor:
        row = cursor.execute(find, (digest,)).fetchone()
        if row is None:
            cursor.execute(insert, (digest, name, json.dumps(details)))
            row = cursor.execute(find, (digest,)).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])


def other_models(connection: Connection, tracked: Tracked) -> dict[str, int]:
    """Returns the vectors of the target by models other than this run's: name and id of the model → rows.

    Counts only if such a model has written before. The ledger also has rows of partitions that were detached, and of
    keys that were deleted and came back without a vector: they do not count, but may come back, so a model has 0 rows.
    Of rows that policies may hide it counts all.
    """
    relation = tracked.relation
    if not set(tracked.models) - {relation.ledger.model}:
        return {}
    models = sql.Identifier(relation.ledger.schema, "model")
    row = sql.SQL("EXISTS (SELECT FROM {} WHERE {} AND {} IS NOT NULL)").format(
        target(relation), relation.ledger.is_row(relation.table.alias, "vecfill_v"), embedding(relation)
    )
    query = sql.SQL(_COUNT).format(
        vectors=relation.ledger.vectors, models=models, there=sql.SQL("true") if relation.access.policies else row
    )
    with transaction(connection, relation.access.reading, read_only=True) as cursor:
        rows = cursor.execute(query, (relation.ledger.model, UNKNOWN_MODEL)).fetchall()
    return {f"{name} (model {number} of the ledger)": count for number, count, name in rows}


_COUNT = """
SELECT vecfill_v.model, pg_catalog.count(*) FILTER (WHERE {there}),
  COALESCE((SELECT m.name FROM {models} AS m WHERE m.id OPERATOR(pg_catalog.=) vecfill_v.model), '?')
FROM {vectors} AS vecfill_v
WHERE vecfill_v.model OPERATOR(pg_catalog.<>) $1::pg_catalog.int4
  AND vecfill_v.model OPERATOR(pg_catalog.<>) $2::pg_catalog.int4
GROUP BY vecfill_v.model ORDER BY 2 DESC
"""


def note_model(connection: Connection, tracked: Tracked, others: Mapping[str, int]) -> None:
    """Notes, before its first write, that this run's model writes vectors of the target, beside the ``others``."""
    own = tracked.relation.ledger.model
    models = sorted({*(tracked.models if others else ()), *([own] if own is not None else [])})
    if models != sorted(tracked.models):
        set_models(connection, tracked.relation, models)
