"""The statements on the remembered failures. Pure."""

from __future__ import annotations

from psycopg import sql

from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection, set_aside
from vecfill.postgres.target_sql import Query, as_text, target


def due(relation: Relation) -> sql.Composed:
    """Condition: the next attempt at a failure is due, or it was with another model."""
    return sql.SQL("(next_try OPERATOR(pg_catalog.<=) pg_catalog.now() OR model OPERATOR(pg_catalog.<>) {})").format(
        sql.Literal(relation.ledger.model)
    )


def queue_due(relation: Relation) -> Query:
    """Queues the failed rows whose next attempt is due, or that failed with another model."""
    tracking = relation.ledger
    return sql.SQL("INSERT INTO {changes} ({columns}, kind) SELECT {columns}, 'R' FROM {failures} WHERE {due}").format(
        due=due(relation),
        changes=tracking.changes,
        columns=tracking.key_columns,
        failures=tracking.failures,
    )


def count_waiting(selection: Selection, relation: Relation) -> Query:
    """Returns how many rows that failed wait for their next attempt, without a vector and with an outdated one."""
    return sql.SQL(
        "SELECT pg_catalog.count(*) FILTER (WHERE vecfill_n.missing), pg_catalog.count(*) FILTER (WHERE NOT "
        "vecfill_n.missing)\nFROM (SELECT (SELECT {} FROM {} WHERE {}) AS missing FROM {} AS vecfill_f WHERE {}) AS "
        "vecfill_n"
    ).format(
        selection.missing(relation),
        target(relation),
        relation.ledger.is_row(relation.table.alias, "vecfill_f"),
        relation.ledger.failures,
        set_aside(relation),
    )


def _key_text(relation: Relation) -> sql.Composed:
    return as_text([sql.Identifier("vecfill_f", name) for name in relation.ledger.key_names])


def failures(relation: Relation) -> Query:
    """Returns the failures, the newest first: key, model, stage, class, message, attempts, last and next attempt."""
    return sql.SQL(
        "SELECT {key}, COALESCE((SELECT m.name FROM {models} AS m WHERE m.id OPERATOR(pg_catalog.=) vecfill_f.model), "
        "'?'),\n  stage, class, message, attempts, last_try, next_try FROM {failures} AS vecfill_f\n"
        "ORDER BY last_try DESC, 1"
    ).format(
        key=_key_text(relation),
        models=sql.Identifier(relation.ledger.schema, "model"),
        failures=relation.ledger.failures,
    )


def retry(relation: Relation) -> Query:
    """Makes failures due and returns their keys: of the keys ``$1``, of the stage ``$2``; NULL stands for any."""
    return sql.SQL(
        "UPDATE {failures} AS vecfill_f SET next_try = LEAST(next_try, pg_catalog.now())\n"
        "WHERE ($1::pg_catalog.text[] IS NULL OR {key} OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]))\n"
        "  AND ($2::pg_catalog.text IS NULL OR stage OPERATOR(pg_catalog.=) $2::pg_catalog.text)\n"
        "RETURNING {key}"
    ).format(failures=relation.ledger.failures, key=_key_text(relation))
