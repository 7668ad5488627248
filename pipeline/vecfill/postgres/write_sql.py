"""The statements that write: the UPDATE that accounts for every staged row, and queries about its outcome. Pure.

They work on both kinds of staging table (``staging_sql``). ``$1`` is each statement's own parameter; arrays follow.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from vecfill.postgres import record_sql
from vecfill.postgres.catalogue import USERS_TRIGGER
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.staging_sql import (
    Query,
    key_columns,
    staging_columns,
    staging_table,
    staging_table_of_arrays,
    with_staging_table,
)
from vecfill.postgres.target_sql import as_text, assignments, column, embedding, target
from vecfill.postgres.template import hash_expression


def _query_staged_rows(relation: Relation, query: str, **parts: sql.Composable) -> Query:
    """Builds a query about the staged rows at the positions ``$1``."""
    built = sql.SQL(query).format(
        staged=staging_table(relation),
        source=target(relation),
        join=_key_join(relation),
        chosen=sql.SQL("vecfill_s.vecfill_n OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int4[])"),
        **parts,
    )
    return with_staging_table(relation, built)


def _key_join(relation: Relation) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} vecfill_s.{}").format(column(relation, part.name), part.equals, name)
        for part, name in zip(relation.table.key, key_columns(relation), strict=True)
    )


def _text_matches(relation: Relation) -> sql.Composed:
    return sql.SQL("({} OPERATOR(pg_catalog.=) vecfill_s.vecfill_hash)").format(hash_expression(relation.user_sql.text))


def _text_still_matches(relation: Relation) -> sql.Composed:
    """Condition: an updated row still has the staged text. Rehashes only if something can have changed the text."""
    if relation.user_sql.generated:
        return _text_matches(relation)
    return sql.SQL("(NOT {} OR {})").format(_trigger_exists(relation, _BEFORE), _text_matches(relation))


def _trigger_exists(relation: Relation, kind: tuple[int, int]) -> sql.Composed:
    """Condition: the table or a partition has a user's trigger of this kind.

    The writing statement checks this itself, because a trigger may be newer than the run. Its lock on the table makes a
    concurrent CREATE TRIGGER wait.
    """
    tables = sql.SQL(
        "SELECT {}::pg_catalog.regclass::pg_catalog.oid"
        if relation.table.plain
        else "SELECT relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree({})"
    ).format(sql.Literal(relation.table.name.as_string()))
    return sql.SQL(_TRIGGERS).format(tables, *map(sql.Literal, kind))


_TRIGGERS: LiteralString = f"""EXISTS (SELECT FROM pg_catalog.pg_trigger
    WHERE tgrelid OPERATOR(pg_catalog.=) ANY ({{}}) AND {USERS_TRIGGER}
      AND tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) {{}} OPERATOR(pg_catalog.=) {{}})"""

_BEFORE, _AFTER = (18, 18), (82, 16)
"""Mask of a trigger's type bits, and their required value: 2 BEFORE, 16 UPDATE, 64 INSTEAD OF."""


def write(selection: Selection, relation: Relation) -> Query:
    """Locks the free rows, compares, updates, and accounts for each staged row: outcome, count, position.

    ``$1`` is the number of staged rows. One result row has the count of ``updated`` rows and whether AFTER triggers
    exist (``changed_by_triggers`` then finds their effects); its position (``vecfill_n``) is NULL. Each row that was
    not updated has a result row of its own. ``rewritten`` means that a trigger changed the text under the vector.
    ``unlocked`` rows are gone, locked by another session, or changed by another session between this statement's
    snapshot and its lock (``key_texts`` finds those that are gone).

    In a plain table the UPDATE finds the locked rows by ctid, which saves an index lookup a row. If a row changed after
    the snapshot, its newest version is locked, but the snapshot does not see that version at its ctid: the row is
    ``unlocked``, never ``refused``. In a partitioned table a ctid is ambiguous without its partition, so the UPDATE
    joins by key again.

    The bounds on ``vecfill_n`` hold for every row and exist for the planner. It knows only the size of a temporary
    table, estimates 35,000 rows instead of 2,000, and would read a target of some 100,000 rows completely for each
    batch, for a merge or hash join. It estimates 1 in 200 for a range without statistics: then it looks up each row by
    the key's index, and a batch costs the same in any table. The alternatives are worse: an ANALYZE a batch would leave
    dead rows in the catalogue, and a lock inside a LATERAL lookup crashes PostgreSQL 18.4 if a row changed after the
    snapshot.
    """
    return _write(
        selection,
        relation,
        staging_table(relation),
        staging_table_of_arrays(relation, vectors=True) if relation.access.arrays else None,
    )


def prepare_statement(selection: Selection, relation: Relation) -> Query:
    """PREPAREs ``write`` against an empty stand-in: the server validates it and runs nothing; then ``DEALLOCATE``."""
    if relation.access.arrays:
        return sql.SQL("PREPARE vecfill_write AS {}").format(write(selection, relation))
    empty = sql.SQL("vecfill_staging AS MATERIALIZED (\n{})").format(staging_columns(relation))
    return sql.SQL("PREPARE vecfill_write AS {}").format(_write(selection, relation, sql.SQL("vecfill_staging"), empty))


DEALLOCATE = "DEALLOCATE vecfill_write"


def _write(selection: Selection, relation: Relation, staged: sql.SQL, before: sql.Composable | None) -> Query:
    """See ``write``. ``staged`` is the staging table, ``before`` the common table expression that makes it, if any."""
    place = sql.SQL("{}.ctid OPERATOR(pg_catalog.=) vecfill_l.vecfill_tid").format(sql.Identifier(relation.table.alias))
    tracked = relation.tracking is not None
    return sql.SQL(_WRITE).format(
        before=sql.SQL("{},\n").format(before) if before else sql.SQL(""),
        held=sql.SQL("\n    AND {}").format(relation.ledger.held) if tracked else sql.SQL(""),
        old=sql.SQL(", {} AS vecfill_old").format(embedding(relation)) if tracked else sql.SQL(""),
        keys=record_sql.staged_keys(relation) if tracked else sql.SQL(""),
        refused=record_sql.refused(selection, relation),
        recorded=record_sql.record(relation) if tracked else sql.SQL(""),
        lost=record_sql.lost(relation) if tracked else sql.SQL(""),
        same=_text_matches(relation),
        kept=_text_still_matches(relation),
        after=_trigger_exists(relation, _AFTER),
        open=selection.open(relation),
        eligible=selection.eligible(relation),
        staged=staged,
        source=target(relation),
        join=_key_join(relation),
        relocate=place if relation.table.plain else _key_join(relation),
        seen=sql.SQL("COALESCE((SELECT true FROM {} WHERE {}), false)").format(target(relation), place)
        if relation.table.plain
        else sql.SQL("true"),
        alias=sql.Identifier(relation.table.alias),
        assignments=assignments(relation, sql.Identifier("vecfill_s", "vecfill_embedding")),
    )


_WRITE = """
WITH {before}vecfill_locked AS MATERIALIZED (
  SELECT vecfill_s.vecfill_n, {alias}.ctid AS vecfill_tid, {same} AS vecfill_same,
    NOT {open} AS vecfill_filled, {eligible} AS vecfill_open{old}
  FROM {staged} AS vecfill_s
  JOIN {source} ON {join}
  WHERE vecfill_s.vecfill_embedding IS NOT NULL AND vecfill_s.vecfill_n OPERATOR(pg_catalog.>=) 0
    AND vecfill_s.vecfill_n OPERATOR(pg_catalog.<) $1::pg_catalog.int8{held}
  FOR NO KEY UPDATE OF {alias} SKIP LOCKED),
vecfill_written AS (
  UPDATE {source} SET {assignments}
  FROM {staged} AS vecfill_s
  JOIN vecfill_locked AS vecfill_l ON vecfill_l.vecfill_n OPERATOR(pg_catalog.=) vecfill_s.vecfill_n
  WHERE {relocate} AND vecfill_l.vecfill_same AND vecfill_l.vecfill_open
  RETURNING vecfill_s.vecfill_n, CASE
    WHEN {refused} THEN 'refused' WHEN {kept} THEN 'updated' ELSE 'rewritten' END AS vecfill_outcome{keys}),{recorded}
vecfill_updated AS (
  SELECT pg_catalog.count(*) AS vecfill_count FROM vecfill_written
  WHERE vecfill_outcome OPERATOR(pg_catalog.=) 'updated'),
vecfill_others AS (
  SELECT vecfill_s.vecfill_n, CASE
    WHEN vecfill_s.vecfill_embedding IS NULL THEN 'failed'
    WHEN vecfill_w.vecfill_n IS NOT NULL THEN vecfill_w.vecfill_outcome
    WHEN vecfill_l.vecfill_n IS NULL THEN 'unlocked'
    WHEN vecfill_l.vecfill_filled THEN 'filled'
    WHEN NOT (vecfill_l.vecfill_same AND vecfill_l.vecfill_open) THEN 'stale'
    WHEN {seen} THEN 'refused' ELSE 'unlocked' END AS vecfill_outcome
  FROM {staged} AS vecfill_s
  LEFT JOIN vecfill_locked AS vecfill_l ON vecfill_l.vecfill_n OPERATOR(pg_catalog.=) vecfill_s.vecfill_n
  LEFT JOIN vecfill_written AS vecfill_w ON vecfill_w.vecfill_n OPERATOR(pg_catalog.=) vecfill_s.vecfill_n
  WHERE (SELECT vecfill_count FROM vecfill_updated) OPERATOR(pg_catalog.<>) $1::pg_catalog.int8
    AND vecfill_w.vecfill_outcome IS DISTINCT FROM 'updated')
SELECT 'updated', vecfill_count, NULL::pg_catalog.int4, {after} FROM vecfill_updated
UNION ALL
SELECT vecfill_outcome, 1, vecfill_n, false FROM vecfill_others{lost}
"""


def key_texts(relation: Relation) -> Query:
    """Selects position, key as text, and whether the row still exists, for the staged rows at the positions ``$1``."""
    columns = [sql.SQL("vecfill_s.{}").format(name) for name in key_columns(relation)]
    return _query_staged_rows(relation, _KEY_TEXTS, key=as_text(columns))


_KEY_TEXTS = """SELECT vecfill_s.vecfill_n, {key}, EXISTS (SELECT FROM {source} WHERE {join})
FROM {staged} AS vecfill_s
WHERE {chosen} ORDER BY 1"""


RUN_DEFERRED_TRIGGERS = sql.SQL("SET CONSTRAINTS ALL IMMEDIATE")
"""Runs the deferred triggers before the commit, so that their effects are visible."""


def changed_by_triggers(selection: Selection, relation: Relation) -> Query:
    """Selects position and outcome of each updated row that a trigger changed; ``$1`` are the rows not updated.

    A separate statement sees the effects of AFTER triggers: on the text (``rewritten``), the vector (``refused``) and
    the row (``gone``). The bounds on ``vecfill_n`` are for the planner, as in ``write``.
    """
    return _query_staged_rows(
        relation,
        _CHANGED_BY_TRIGGERS,
        same=_text_matches(relation),
        missing=selection.missing(relation),
        alias=sql.Identifier(relation.table.alias),
    )


_CHANGED_BY_TRIGGERS = """SELECT vecfill_s.vecfill_n,
  CASE WHEN {alias}.ctid IS NULL THEN 'gone' WHEN {missing} THEN 'refused' ELSE 'rewritten' END
FROM {staged} AS vecfill_s LEFT JOIN {source} ON {join}
WHERE NOT {chosen} AND vecfill_s.vecfill_n OPERATOR(pg_catalog.>=) 0
  AND vecfill_s.vecfill_n OPERATOR(pg_catalog.<) 2147483647 AND ({alias}.ctid IS NULL OR {missing} OR NOT {same})"""


def lockable_rows(relation: Relation) -> Query:
    """Selects the positions among ``$1`` that this role can lock; error 55P03 if another session holds one of them."""
    return _query_staged_rows(relation, _LOCKABLE, alias=sql.Identifier(relation.table.alias))


_LOCKABLE = """SELECT vecfill_s.vecfill_n FROM {staged} AS vecfill_s JOIN {source} ON {join}
WHERE {chosen}
FOR NO KEY UPDATE OF {alias} NOWAIT"""
