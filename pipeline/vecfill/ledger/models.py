"""The models of a ledger: each fingerprint has a number, and no two meet in one column unnoticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from psycopg import sql

from vecfill.config.target import Target
from vecfill.ledger.registry import Tracked, condition_of, find_targets, ledger_version
from vecfill.ledger.target_notes import set_models
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import target
from vecfill.postgres.tracking import UNKNOWN_MODEL
from vecfill.postgres.transaction import transaction


def model_number(connection: Connection, schema: str, digest: str, name: str, details: Mapping[str, Any]) -> int:
    """Returns the number of a model in the ledger; registers it at first use.

    Args:
        connection: to the target's database.
        schema: of the ledger.
        digest: of the model's fingerprint.
        name: of the model, for messages.
        details: the fingerprint spelled out.
    """
    with transaction(connection) as cursor:
        row = cursor.execute(_find(schema), (digest,)).fetchone()
        if row is None:
            cursor.execute(register_model(schema, digest, name, details), ())
            row = cursor.execute(_find(schema), (digest,)).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])


def register_model(schema: str, digest: str, name: str, details: Mapping[str, Any]) -> sql.Composed:
    """Registers a model, unless the ledger has it."""
    return sql.SQL(
        "INSERT INTO {} (fingerprint, name, details) VALUES ({}, {}, {}::pg_catalog.jsonb) ON CONFLICT DO NOTHING"
    ).format(sql.Identifier(schema, "model"), *map(sql.Literal, (digest, name, json.dumps(details))))


NOT_REGISTERED = -1
"""In place of the number of a model that the ledger does not have."""


def known_number(connection: Connection, schema: str, digest: str) -> int:
    """Returns the number of a model in the ledger, or ``NOT_REGISTERED``; writes nothing."""
    with transaction(connection, read_only=True) as cursor:
        row = cursor.execute(_find(schema), (digest,)).fetchone()
    return int(row[0]) if row else NOT_REGISTERED


def _find(schema: str) -> sql.Composed:
    return sql.SQL("SELECT id FROM {} WHERE fingerprint OPERATOR(pg_catalog.=) $1::pg_catalog.text").format(
        sql.Identifier(schema, "model")
    )


def other_models(connection: Connection, tracked: Tracked, selection: Selection) -> dict[str, int]:
    """Returns the vectors of the target by models other than this run's: name and id of the model → rows.

    Counts only if such a model has written before, or a table is to be read as a whole: a partition that was attached
    may have brought its own. Entries without a row, such as those of a detached partition, do not count.
    Of rows that policies may hide it counts all.
    """
    relation = tracked.relation
    if not set(tracked.models) - {relation.ledger.model} and not (tracked.models and tracked.to_scan):
        return {}
    models = sql.Identifier(relation.ledger.schema, "model")
    row = sql.SQL("EXISTS (SELECT FROM {} WHERE {} AND NOT {})").format(
        target(relation),
        relation.ledger.is_row(relation.table.alias, "vecfill_v"),
        selection.missing(relation),
    )
    query = sql.SQL(_COUNT).format(
        vectors=relation.ledger.vectors, models=models, there=sql.SQL("true") if relation.access.policies else row
    )
    with transaction(connection, relation.access.reading, read_only=True) as cursor:
        rows = cursor.execute(query, (relation.ledger.model, UNKNOWN_MODEL)).fetchall()
    return {f"{name} (model {number} of the ledger)": count for number, count, name in rows}


_COUNT = """
SELECT vecfill_v.model, pg_catalog.count(*),
  COALESCE((SELECT m.name FROM {models} AS m WHERE m.id OPERATOR(pg_catalog.=) vecfill_v.model), '?')
FROM {vectors} AS vecfill_v
WHERE vecfill_v.model OPERATOR(pg_catalog.<>) $1::pg_catalog.int4
  AND vecfill_v.model OPERATOR(pg_catalog.<>) $2::pg_catalog.int4
  AND {there}
GROUP BY vecfill_v.model ORDER BY 2 DESC
"""


def note_model(connection: Connection, tracked: Tracked, others: Mapping[str, int]) -> None:
    """Notes, before its first write, that this run's model writes vectors of the target, beside the ``others``."""
    own = tracked.relation.ledger.model
    models = sorted({*(tracked.models if others else ()), *([own] if own is not None else [])})
    if models != sorted(tracked.models):
        set_models(connection, tracked.relation, models)


def writers(connection: Connection, relation: Relation, target: Target) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns name and details of the models that wrote vectors of a target; none if it is not tracked.

    If it is tracked, but not with this ``where``, those of all its tracked parts.

    Raises:
        ConfigError: this role may not read the ledger.
    """
    with transaction(connection, read_only=True) as cursor:
        if not ledger_version(cursor, target.state_schema, relation):
            return []
        found = find_targets(cursor, relation, target)
        own = found.get(condition_of(target))
        numbers = {number for row in ([own] if own else found.values()) for number in row.models}
        query = sql.SQL("SELECT name, details FROM {} WHERE id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int4[])")
        table = sql.Identifier(target.state_schema, "model")
        return cursor.execute(query.format(table), (sorted(numbers),)).fetchall()
