"""The statements that write: the accounted update over the stage, and queries about its outcome. Pure.

They are the same over both kinds of stage (``staging``). ``$1`` is each statement's own parameter; arrays follow.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from vecfill.postgres.catalogue import USERS_TRIGGER
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.staging_sql import Query, key_columns, staging_columns, staging_table, staging_table_of_arrays
from vecfill.postgres.target_sql import column, embedding, target
from vecfill.postgres.template import hash_expression


def _query_staged_rows(relation: Relation, query: str, **parts: sql.Composable) -> Query:
    """A question about the staged rows at the positions ``$1``."""
    asked = sql.SQL(query).format(
        staged=staging_table(relation),
        source=target(relation),
        join=_key_join(relation),
        chosen=sql.SQL("vecfill_s.vecfill_n OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int4[])"),
        **parts,
    )
    return (
        sql.SQL("WITH {}\n{}").format(staging_table_of_arrays(relation, vectors=False), asked)
        if relation.access.arrays
        else asked
    )


def _key_join(relation: Relation) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} vecfill_s.{}").format(column(relation, part.name), part.equals, name)
        for part, name in zip(relation.table.key, key_columns(relation), strict=True)
    )


def _text_matches(relation: Relation) -> sql.Composed:
    return sql.SQL("({} OPERATOR(pg_catalog.=) vecfill_s.vecfill_hash)").format(hash_expression(relation.user_sql.text))


def _text_still_matches(relation: Relation) -> sql.Composed:
    """Whether an updated row still has the staged text: hashed anew only where something can have changed it."""
    if relation.user_sql.generated:
        return _text_matches(relation)
    return sql.SQL("(NOT {} OR {})").format(_trigger_exists(relation, _BEFORE), _text_matches(relation))


def _trigger_exists(relation: Relation, kind: tuple[int, int]) -> sql.Composed:
    """Whether a user's trigger of a kind is on the table or a partition.

    The statement that writes looks for itself, since a trigger may be younger than the run. Who makes one waits for the
    lock that the statement has by then.
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
"""Bits of a trigger's type, and what they must be: 2 BEFORE, 16 UPDATE, 64 INSTEAD OF."""


def write(selection: Selection, relation: Relation) -> Query:
    """Locks what is free, compares, updates, and accounts for each staged row: outcome, count, position.

    ``$1`` is the number of staged rows. One row tells how many were ``updated``, and whether triggers are to run after
    the update (``changed_by_triggers``); its position (``vecfill_n``) is NULL. Each row that was not updated
    comes by itself. ``rewritten`` means that a trigger changed the text under the vector; ``unlocked`` rows are gone,
    locked by another, or changed by another between this statement's snapshot and its lock (``key_texts`` tells the
    first from the others).

    A plain table's rows are found again by where the lock found them, which saves an index lookup a row. A row that
    was changed after the snapshot has its newest version locked, and the snapshot does not see that version at its
    place: it is ``unlocked``, never ``refused``. In a partitioned table a place means nothing without its partition,
    and the key finds the partition: there the key joins again.

    The bounds of ``vecfill_n`` hold for every row and are there for the planner. It knows no more of a temporary table
    than its size, takes 2,000 rows for 35,000, and would read a target of some 100,000 rows whole for each batch, to
    merge or hash it. A range of which it knows nothing counts for 1 in 200: the key's index finds each row, and a batch
    costs the same in any table. An ANALYZE a batch would leave dead rows in the catalogue, and a lock inside a LATERAL
    lookup, which would say the same outright, brings PostgreSQL 18.4 down where a row changed after the snapshot.
    """
    return _write(
        selection,
        relation,
        staging_table(relation),
        staging_table_of_arrays(relation, vectors=True) if relation.access.arrays else None,
    )


def prepare_statement(selection: Selection, relation: Relation) -> Query:
    """Has the server take in ``write``, and do no more, over a stage that needs not be made; ``DEALLOCATE`` ends it."""
    if relation.access.arrays:
        return sql.SQL("PREPARE vecfill_write AS {}").format(write(selection, relation))
    empty = sql.SQL("vecfill_staging AS MATERIALIZED (\n{})").format(staging_columns(relation))
    return sql.SQL("PREPARE vecfill_write AS {}").format(_write(selection, relation, sql.SQL("vecfill_staging"), empty))


DEALLOCATE = "DEALLOCATE vecfill_write"


def _write(selection: Selection, relation: Relation, staged: sql.SQL, before: sql.Composable | None) -> Query:
    """See ``write``. ``staged`` is where the rows are, ``before`` the common table expression that makes it, if any."""
    assignments = [
        sql.SQL("{} = vecfill_s.vecfill_embedding").format(sql.Identifier(relation.table.vector.name)),
        *(sql.SQL("{} = (\n{}\n)").format(sql.Identifier(name), text) for name, text in relation.user_sql.assignments),
    ]
    place = sql.SQL("{}.ctid OPERATOR(pg_catalog.=) vecfill_l.vecfill_tid").format(sql.Identifier(relation.table.alias))
    return sql.SQL(_WRITE).format(
        before=sql.SQL("{},\n").format(before) if before else sql.SQL(""),
        same=_text_matches(relation),
        kept=_text_still_matches(relation),
        after=_trigger_exists(relation, _AFTER),
        embedding=embedding(relation),
        open=selection.open(relation),
        eligible=selection.eligible(relation),
        staged=staged,
        source=target(relation),
        join=_key_join(relation),
        again=place if relation.table.plain else _key_join(relation),
        seen=sql.SQL("EXISTS (SELECT FROM {} WHERE {})").format(target(relation), place)
        if relation.table.plain
        else sql.SQL("true"),
        alias=sql.Identifier(relation.table.alias),
        assignments=sql.SQL(", ").join(assignments),
    )


_WRITE = """
WITH {before}vecfill_locked AS MATERIALIZED (
  SELECT vecfill_s.vecfill_n, {alias}.ctid AS vecfill_tid, {same} AS vecfill_same,
    NOT {open} AS vecfill_filled, {eligible} AS vecfill_open
  FROM {staged} AS vecfill_s
  JOIN {source} ON {join}
  WHERE vecfill_s.vecfill_embedding IS NOT NULL AND vecfill_s.vecfill_n OPERATOR(pg_catalog.>=) 0
    AND vecfill_s.vecfill_n OPERATOR(pg_catalog.<) $1::pg_catalog.int8
  FOR NO KEY UPDATE OF {alias} SKIP LOCKED),
vecfill_written AS (
  UPDATE {source} SET {assignments}
  FROM {staged} AS vecfill_s
  JOIN vecfill_locked AS vecfill_l ON vecfill_l.vecfill_n OPERATOR(pg_catalog.=) vecfill_s.vecfill_n
  WHERE {again} AND vecfill_l.vecfill_same AND vecfill_l.vecfill_open
  RETURNING vecfill_s.vecfill_n, CASE
    WHEN {embedding} IS NULL THEN 'refused' WHEN {kept} THEN 'updated' ELSE 'rewritten' END AS vecfill_outcome),
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
SELECT vecfill_outcome, 1, vecfill_n, false FROM vecfill_others
"""


def key_texts(relation: Relation) -> Query:
    """Position, key as text, and whether the row is still there, of the staged rows at the positions ``$1``."""
    columns = [sql.SQL("vecfill_s.{}").format(name) for name in key_columns(relation)]
    key = columns[0] if len(columns) == 1 else sql.SQL("ROW({})").format(sql.SQL(", ").join(columns))
    return _query_staged_rows(relation, _KEY_TEXTS, key=key)


_KEY_TEXTS = """SELECT vecfill_s.vecfill_n, {key}::pg_catalog.text, EXISTS (SELECT FROM {source} WHERE {join})
FROM {staged} AS vecfill_s
WHERE {chosen} ORDER BY 1"""


RUN_DEFERRED_TRIGGERS = sql.SQL("SET CONSTRAINTS ALL IMMEDIATE")
"""Runs the triggers that wait for the commit (``DEFERRABLE``), so that what they do is still seen."""


def changed_by_triggers(relation: Relation) -> Query:
    """Position and outcome of each row just updated that is not as it was left; ``$1`` are those not updated.

    A statement of its own, so that it sees what triggers did AFTER the update: to the text (``rewritten``), the vector
    (``refused``) and the row (``gone``).
    """
    return _query_staged_rows(
        relation,
        _CHANGED_BY_TRIGGERS,
        same=_text_matches(relation),
        embedding=embedding(relation),
        alias=sql.Identifier(relation.table.alias),
    )


_CHANGED_BY_TRIGGERS = """SELECT vecfill_s.vecfill_n,
  CASE WHEN {alias}.ctid IS NULL THEN 'gone' WHEN {embedding} IS NULL THEN 'refused' ELSE 'rewritten' END
FROM {staged} AS vecfill_s LEFT JOIN {source} ON {join}
WHERE NOT {chosen} AND ({alias}.ctid IS NULL OR {embedding} IS NULL OR NOT {same})"""


def lockable_rows(relation: Relation) -> Query:
    """Positions among ``$1`` whose row this role may lock now; an error 55P03 where another holds one of them."""
    return _query_staged_rows(relation, _LOCKABLE, alias=sql.Identifier(relation.table.alias))


_LOCKABLE = """SELECT vecfill_s.vecfill_n FROM {staged} AS vecfill_s JOIN {source} ON {join}
WHERE {chosen}
FOR NO KEY UPDATE OF {alias} NOWAIT"""
