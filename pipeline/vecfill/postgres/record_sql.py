"""The parts of a write that keep the ledger of a tracked target: origins, failures, the lease. Pure.

``write_sql.write`` embeds the first group; the others are statements on the staged rows of the same transaction.
"""

from __future__ import annotations

from psycopg import sql

from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.staging_sql import Query, staging_table, with_staging_table
from vecfill.postgres.target_sql import embedding


def staged_keys(relation: Relation) -> sql.Composed:
    """Returns what the UPDATE must return for ``record``: the staged key columns and hash."""
    return sql.SQL(", {}, vecfill_s.vecfill_hash").format(relation.ledger.keys_of("vecfill_s", staged=True))


def record(relation: Relation) -> sql.Composed:
    """Writes the origin of each updated vector into the ledger, and forgets the failures of its row."""
    tracking = relation.ledger
    return sql.SQL(_RECORD).format(
        vectors=tracking.vectors,
        failures=tracking.failures,
        columns=tracking.key_columns,
        keys=tracking.keys_of("vecfill_w", staged=True),
        model=sql.Literal(tracking.model),
        same_key=tracking.same_key("vecfill_f", "vecfill_w", staged=True),
    )


_RECORD = """
vecfill_recorded AS (
  INSERT INTO {vectors} AS vecfill_v ({columns}, model, text_hash)
  SELECT {keys}, {model}, vecfill_w.vecfill_hash FROM vecfill_written AS vecfill_w
  WHERE vecfill_w.vecfill_outcome OPERATOR(pg_catalog.=) 'updated'
  ON CONFLICT ({columns}) DO UPDATE SET model = EXCLUDED.model, text_hash = EXCLUDED.text_hash),
vecfill_recovered AS (
  DELETE FROM {failures} AS vecfill_f USING vecfill_written AS vecfill_w
  WHERE {same_key} AND vecfill_w.vecfill_outcome OPERATOR(pg_catalog.=) 'updated'),"""


def lost(relation: Relation) -> sql.Composed:
    """Adds a row ``lost`` to the account if another run took over the lease; then no row was locked."""
    return sql.SQL("\nUNION ALL\nSELECT 'lost', 0, NULL::pg_catalog.int4, false WHERE NOT {}").format(
        relation.ledger.held
    )


def refused(selection: Selection, relation: Relation) -> sql.Composable:
    """Condition: an updated row did not keep its vector: it has none, or still the old one."""
    missing = selection.missing(relation)
    if relation.tracking is None:
        return missing
    new, old, staged = (
        sql.SQL("ROW({})::pg_catalog.record").format(value)
        for value in (embedding(relation), sql.SQL("vecfill_l.vecfill_old"), sql.SQL("vecfill_s.vecfill_embedding"))
    )
    return sql.SQL("({} OR {} OPERATOR(pg_catalog.*=) {} AND {} OPERATOR(pg_catalog.*<>) {})").format(
        missing, new, old, new, staged
    )


def record_failures(relation: Relation) -> Query:
    """Remembers failed rows: ``$1`` is a JSON array of objects with the position ``n``, stage, class and message.

    The next attempt is due after 15 minutes, twice as long after each further one, at most a day.
    """
    tracking = relation.ledger
    query = sql.SQL(_FAILURES).format(
        failures=tracking.failures,
        columns=tracking.key_columns,
        keys=tracking.keys_of("vecfill_s", staged=True),
        model=sql.Literal(tracking.model),
        staged=staging_table(relation),
    )
    return with_staging_table(relation, query)


_FAILURES = """
INSERT INTO {failures} AS vecfill_f ({columns}, model, text_hash, stage, class, message, attempts, last_try, next_try)
SELECT {keys}, {model}, vecfill_s.vecfill_hash, vecfill_r.stage, vecfill_r.class, vecfill_r.message, 1,
  pg_catalog.now(), pg_catalog.now() OPERATOR(pg_catalog.+) '15 min'::pg_catalog.interval
FROM pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) AS vecfill_r (
  n pg_catalog.int4, stage pg_catalog.text, class pg_catalog.text, message pg_catalog.text)
JOIN {staged} AS vecfill_s ON vecfill_s.vecfill_n OPERATOR(pg_catalog.=) vecfill_r.n
ON CONFLICT ({columns}) DO UPDATE SET model = EXCLUDED.model, text_hash = EXCLUDED.text_hash, stage = EXCLUDED.stage,
  class = EXCLUDED.class, message = EXCLUDED.message, last_try = EXCLUDED.last_try,
  attempts = vecfill_f.attempts OPERATOR(pg_catalog.+) 1,
  next_try = pg_catalog.now() OPERATOR(pg_catalog.+) ('15 min'::pg_catalog.interval
    OPERATOR(pg_catalog.*) LEAST(96::pg_catalog.float8, pg_catalog.power(2::pg_catalog.float8, vecfill_f.attempts)))
"""


def forget(relation: Relation) -> Query:
    """Removes the origins of the staged rows at the positions ``$1``, whose vectors a later trigger took away."""
    tracking = relation.ledger
    query = sql.SQL(
        "DELETE FROM {vectors} AS vecfill_v USING {staged} AS vecfill_s WHERE {same_key}\n"
        "  AND vecfill_s.vecfill_n OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int4[])"
    ).format(
        vectors=tracking.vectors,
        staged=staging_table(relation),
        same_key=tracking.same_key("vecfill_v", "vecfill_s", staged=True),
    )
    return with_staging_table(relation, query)
