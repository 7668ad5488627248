"""The statements that settle entries of a queue table: those of a written batch, and those that need nothing. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecfill.postgres.queue_table import ENTRY
from vecfill.postgres.queue_table_sql import entries, failure, row_of_entry, settling, updating
from vecfill.postgres.read_sql import place_bound
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.staging_sql import Query, staging_table, staging_table_of_arrays
from vecfill.postgres.target_sql import where

NEEDLESS = "gone", "empty", "filled"
"""Why an entry needs no vector: its row was deleted, has no text, or has a vector that is to stay."""


def settle_needless(selection: Selection, relation: Relation, bounds: Sequence[str]) -> Query:
    """Settles pending entries within bounds whose row needs nothing; returns their number by reason.

    Where row-level policies apply, a row that is gone looks like a hidden one: its entries stay.
    """
    queue = relation.queue_table
    places = [place_bound(bound, sql.Identifier(ENTRY, "ctid"), number) for number, bound in enumerate(bounds, 1)]
    return sql.SQL(_NEEDLESS).format(
        queue=entries(queue),
        entry=sql.Identifier(ENTRY),
        pending=queue.has_status(queue.pending),
        within=sql.SQL(" AND ").join([sql.SQL("true"), *places]),
        reason=row_of_entry(
            relation,
            sql.SQL("CASE WHEN NOT {} THEN 'others' WHEN {} THEN 'empty' WHEN {} THEN 'filled' ELSE 'open' END").format(
                where(relation),
                relation.user_sql.blank,
                sql.SQL("false") if queue.embed_filled else sql.SQL("NOT {}").format(selection.missing(relation)),
            ),
            absent=sql.SQL("'others'" if relation.access.policies else "'gone'"),
        ),
        reasons=sql.SQL(", ").join(map(sql.Literal, NEEDLESS)),
        settling=settling(queue),
    )


_NEEDLESS = """
WITH vecfill_found AS MATERIALIZED (
  SELECT {entry}.ctid AS vecfill_tid, {reason} AS vecfill_reason FROM {queue} WHERE {within} AND {pending}),
vecfill_chosen AS MATERIALIZED (
  SELECT vecfill_f.vecfill_tid, vecfill_f.vecfill_reason FROM vecfill_found AS vecfill_f
  JOIN {queue} ON {entry}.ctid OPERATOR(pg_catalog.=) vecfill_f.vecfill_tid
  WHERE {pending} AND vecfill_f.vecfill_reason IN ({reasons}) FOR UPDATE OF {entry} SKIP LOCKED),
vecfill_settled AS ({settling} RETURNING vecfill_chosen.vecfill_reason)
SELECT vecfill_reason, pg_catalog.count(*) FROM vecfill_settled GROUP BY vecfill_reason
"""


def settle_staged(relation: Relation, *, failures: bool) -> Query:
    """Settles the open entries of staged rows; ``$1`` is a JSON array of the rows whose entries are not simply done.

    Each is an object with the position ``n``, and the ``message`` of a failure, or none if its entries stay open.

    Args:
        relation: the target.
        failures: some rows failed.
    """
    queue = relation.queue_table
    staged = staging_table_of_arrays(relation, vectors=False) if relation.access.arrays else None
    return sql.SQL(_STAGED).format(
        before=sql.SQL("{},\n").format(staged) if staged else sql.SQL(""),
        queue=entries(queue),
        entry=sql.Identifier(ENTRY),
        staged=staging_table(relation),
        same_key=queue.is_staged("vecfill_s"),
        open=queue.is_open(),
        failed=sql.SQL("vecfill_failed AS (\n  {} AND vecfill_chosen.vecfill_message IS NOT NULL RETURNING 1),").format(
            updating(queue, failure(queue, sql.SQL("vecfill_chosen.vecfill_message")))
        )
        if failures
        else sql.SQL(""),
        settling=settling(queue),
    )


_STAGED = """
WITH {before}vecfill_chosen AS MATERIALIZED (
  SELECT {entry}.ctid AS vecfill_tid, vecfill_r.message AS vecfill_message
  FROM {staged} AS vecfill_s
  LEFT JOIN pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) AS vecfill_r (
      n pg_catalog.int4, message pg_catalog.text)
    ON vecfill_r.n OPERATOR(pg_catalog.=) vecfill_s.vecfill_n
  JOIN {queue} ON {same_key}
  WHERE vecfill_s.vecfill_n OPERATOR(pg_catalog.>=) 0 AND vecfill_s.vecfill_n OPERATOR(pg_catalog.<) 2147483647
    AND (vecfill_r.n IS NULL OR vecfill_r.message IS NOT NULL) AND {open}
  FOR UPDATE OF {entry} SKIP LOCKED),
{failed}
vecfill_done AS (
  {settling} AND vecfill_chosen.vecfill_message IS NULL RETURNING 1)
SELECT pg_catalog.count(*) FROM vecfill_done
"""
