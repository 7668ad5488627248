"""Every statement that touches the user's table, made from the introspected target. Pure: SQL text in, SQL text out.

Functions and operators are schema-qualified, identifiers quoted, values parameters (``$1``). The user's ``where`` and
``set`` stand in brackets on their own lines. Names that the user's SQL could mistake for columns start ``vecfill_``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

from psycopg import sql

from vecfill.blocks import key_names
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.target import Relation
from vecfill.postgres.template import hash_expression

Query = sql.Composed


def _from(leaf: Leaf, relation: Relation) -> sql.Composed:
    return sql.SQL("{only}{name} AS {alias}").format(
        only=sql.SQL("ONLY " if leaf.only else ""), name=leaf.name, alias=sql.Identifier(relation.alias)
    )


def _target(relation: Relation) -> sql.Composed:
    return sql.SQL("{only}{name} AS {alias}").format(
        only=sql.SQL("ONLY " if relation.plain else ""), name=relation.name, alias=sql.Identifier(relation.alias)
    )


def _column(relation: Relation, name: str) -> sql.Identifier:
    return sql.Identifier(relation.alias, name)


def _embedding(relation: Relation) -> sql.Identifier:
    return _column(relation, relation.vector.name)


def _where(relation: Relation) -> sql.Composed:
    return sql.SQL("(\n{}\n)").format(relation.where if relation.where is not None else sql.SQL("true"))


def eligible(relation: Relation) -> Query:
    """Condition: no vector yet, something to embed, and the user's ``where``."""
    return sql.SQL("({embedding} IS NULL AND NOT {blank} AND {where})").format(
        embedding=_embedding(relation), blank=relation.blank, where=_where(relation)
    )


def survey(relation: Relation, leaf: Leaf) -> Query:
    """Counts a leaf's rows, the eligible ones by where they lie: one scan gives the coverage and the plan.

    ``$1`` is the number of heap pages in a bucket. Rows: bucket (NULL for rows that are not eligible), rows, rows with
    a vector, empty rows, bytes of text.
    """
    return sql.SQL(_SURVEY).format(
        alias=sql.Identifier(relation.alias),
        embedding=_embedding(relation),
        blank=relation.blank,
        text=relation.text,
        source=_from(leaf, relation),
        where=_where(relation),
    )


_SURVEY = """
SELECT vecfill_bucket, pg_catalog.count(*),
  pg_catalog.count(*) FILTER (WHERE vecfill_state OPERATOR(pg_catalog.=) 'filled'),
  pg_catalog.count(*) FILTER (WHERE vecfill_state OPERATOR(pg_catalog.=) 'empty'),
  COALESCE(pg_catalog.sum(vecfill_bytes), 0)::pg_catalog.int8
FROM (
  SELECT vecfill_state,
    CASE WHEN vecfill_state OPERATOR(pg_catalog.=) 'missing' THEN pg_catalog.int8div(
      (vecfill_tid::pg_catalog.text::pg_catalog.point)[0]::pg_catalog.int8, $1::pg_catalog.int8) END AS vecfill_bucket,
    CASE WHEN vecfill_state OPERATOR(pg_catalog.=) 'missing'
      THEN pg_catalog.octet_length(vecfill_text) END AS vecfill_bytes
  FROM (
    SELECT {alias}.ctid AS vecfill_tid, CASE WHEN {embedding} IS NULL THEN {text} END AS vecfill_text,
      CASE WHEN {embedding} IS NOT NULL THEN 'filled' WHEN {blank} THEN 'empty' ELSE 'missing' END AS vecfill_state
    FROM {source}
    WHERE {where} OFFSET 0) AS vecfill_rows) AS vecfill_states
GROUP BY vecfill_bucket
"""


def read(relation: Relation, leaf: Leaf, *, first: bool, last: bool) -> Query:
    """Reads the eligible rows of a range of heap pages: a TID Range Scan, or what the planner likes for a whole leaf.

    Parameters, in order: the row limit, then the first page as a tid (``(12,0)``) unless ``first``, then the page
    after the last one likewise unless ``last``: the last range stays open, for rows that arrive meanwhile.
    """
    bounds: list[sql.Composable] = []
    if not first:
        bounds.append(sql.SQL("{}.ctid OPERATOR(pg_catalog.>=) $2::pg_catalog.tid"))
    if not last:
        bounds.append(sql.SQL("{}.ctid OPERATOR(pg_catalog.<) $" + ("2" if first else "3") + "::pg_catalog.tid"))
    alias = sql.Identifier(relation.alias)
    return sql.SQL(
        "SELECT {names}, vecfill_text, {hash}\n"
        "FROM (SELECT {keys}, {text} AS vecfill_text\n  FROM {source}\n  WHERE {conditions}\n"
        "  LIMIT $1::pg_catalog.int8) AS vecfill_rows"
    ).format(
        names=sql.SQL(", ").join(sql.Identifier(name) for name in key_names(relation.arity)),
        hash=hash_expression(sql.Identifier("vecfill_text")),
        keys=sql.SQL(", ").join(
            sql.SQL("{}({}) AS {}").format(column.send, _column(relation, column.name), sql.Identifier(name))
            for column, name in zip(relation.key, key_names(relation.arity), strict=True)
        ),
        text=relation.text,
        source=_from(leaf, relation),
        conditions=sql.SQL("\n    AND ").join(
            [eligible(relation), *(sql.SQL(bound.as_string()).format(alias) for bound in bounds)]
        ),
    )


def sample(relation: Relation, *, percent: float | None) -> Query:
    """Texts and vectors of up to ``$1`` rows that have both, from ``percent`` of the pages where given."""
    tablesample = sql.SQL("" if percent is None else " TABLESAMPLE SYSTEM ({})").format(
        *([] if percent is None else [percent])
    )
    return sql.SQL(
        "SELECT {text}, {embedding}::pg_catalog.float4[] FROM {source}{tablesample}\n"
        "WHERE {embedding} IS NOT NULL AND NOT {blank} LIMIT $1::pg_catalog.int8"
    ).format(
        text=relation.text,
        embedding=_embedding(relation),
        source=_target(relation),
        tablesample=tablesample,
        blank=relation.blank,
    )


def checks(relation: Relation, *, writing: bool = True) -> Iterator[tuple[str, Query]]:
    """Yields what each statement checks, and the statement: an EXPLAIN, which needs the same rights and runs nothing.

    Without ``writing`` they need no right but SELECT, and leave out what only a run uses.

    The user's SQL comes alone and as we use it: alone, ``true) or (true`` does not parse; in brackets on its own
    lines, ``true union select 1`` does not.
    """
    source = _target(relation)
    if relation.where is not None:
        yield "--where", _explain("SELECT 1 FROM {} WHERE {}", source, relation.where)
        yield "--where", _explain("SELECT 1 FROM {} WHERE {}", source, _where(relation))
    for name, expression in relation.assignments if writing else ():
        yield f"--set {name}", _explain("SELECT {} FROM {}", expression, source)
        yield f"--set {name}", _explain("UPDATE {} SET {} = (\n{}\n)", source, sql.Identifier(name), expression)
    yield (
        "--text",
        _explain(
            "SELECT {}, {}, {}.ctid FROM {} WHERE {}",
            relation.text,
            _embedding(relation),
            sql.Identifier(relation.alias),
            source,
            eligible(relation),
        ),
    )
    if writing:
        yield "--column", _explain("UPDATE {} SET {} = NULL", source, sql.Identifier(relation.vector.name))


def _explain(query: LiteralString, *parts: sql.Composable) -> Query:
    return sql.SQL("EXPLAIN {}").format(sql.SQL(query).format(*parts))


_STAGE = sql.SQL("pg_temp.vecfill_stage")


def create_stage(relation: Relation) -> Query:
    """A temporary table of the target's own key and vector types, collations too, dropped with the transaction."""
    return sql.SQL(
        "CREATE TEMPORARY TABLE vecfill_stage ON COMMIT DROP AS\n"
        "SELECT 0::pg_catalog.int4 AS vecfill_n, {keys}, ''::pg_catalog.bytea AS vecfill_hash,\n"
        "  {embedding} AS vecfill_embedding\n"
        "FROM {source} WITH NO DATA"
    ).format(
        keys=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(_column(relation, column.name), sql.Identifier(f"vecfill_{name}"))
            for column, name in zip(relation.key, key_names(relation.arity), strict=True)
        ),
        embedding=_embedding(relation),
        source=_target(relation),
    )


def copy_stage() -> Query:
    """Fills the stage; the columns come in the order of ``create_stage``."""
    return sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(_STAGE)


def analyze_stage(relation: Relation) -> Query:
    """Tells the planner how many rows there are: without it 2,000 rows are taken for 54,000."""
    names = sql.SQL(", ").join(sql.Identifier(f"vecfill_{name}") for name in key_names(relation.arity))
    return sql.SQL("ANALYZE {} ({})").format(_STAGE, names)


def _join(relation: Relation) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} vecfill_s.{}").format(
            _column(relation, column.name), column.equals, sql.Identifier(f"vecfill_{name}")
        )
        for column, name in zip(relation.key, key_names(relation.arity), strict=True)
    )


def _same(relation: Relation) -> sql.Composed:
    return sql.SQL("({} OPERATOR(pg_catalog.=) vecfill_s.vecfill_hash)").format(hash_expression(relation.text))


def write(relation: Relation) -> Query:
    """Locks what is free, compares, updates, and accounts for each staged row: outcome, count, positions.

    The positions (``vecfill_n``) are NULL for ``updated``. ``rewritten`` means that a trigger changed the text under
    the vector; ``unlocked`` rows are gone or locked by another (``visible`` tells).
    """
    assignments = [
        sql.SQL("{} = vecfill_s.vecfill_embedding").format(sql.Identifier(relation.vector.name)),
        *(sql.SQL("{} = (\n{}\n)").format(sql.Identifier(name), text) for name, text in relation.assignments),
    ]
    return sql.SQL(_WRITE).format(
        same=_same(relation),
        embedding=_embedding(relation),
        eligible=eligible(relation),
        stage=_STAGE,
        source=_target(relation),
        join=_join(relation),
        alias=sql.Identifier(relation.alias),
        assignments=sql.SQL(", ").join(assignments),
    )


_WRITE = """
WITH vecfill_locked AS MATERIALIZED (
  SELECT vecfill_s.vecfill_n, {same} AS vecfill_same, {embedding} IS NOT NULL AS vecfill_filled,
    {eligible} AS vecfill_open
  FROM {stage} AS vecfill_s JOIN {source} ON {join}
  WHERE vecfill_s.vecfill_embedding IS NOT NULL
  FOR NO KEY UPDATE OF {alias} SKIP LOCKED),
vecfill_written AS (
  UPDATE {source} SET {assignments}
  FROM {stage} AS vecfill_s
  JOIN vecfill_locked AS vecfill_l ON vecfill_l.vecfill_n OPERATOR(pg_catalog.=) vecfill_s.vecfill_n
  WHERE {join} AND vecfill_l.vecfill_same AND vecfill_l.vecfill_open
  RETURNING vecfill_s.vecfill_n, {same} AS vecfill_kept, {embedding} IS NOT NULL AS vecfill_filled),
vecfill_outcomes AS (
  SELECT vecfill_s.vecfill_n, CASE
    WHEN vecfill_s.vecfill_embedding IS NULL THEN 'failed'
    WHEN NOT vecfill_w.vecfill_filled THEN 'refused'
    WHEN vecfill_w.vecfill_kept THEN 'updated'
    WHEN NOT vecfill_w.vecfill_kept THEN 'rewritten'
    WHEN vecfill_l.vecfill_n IS NULL THEN 'unlocked'
    WHEN vecfill_l.vecfill_filled THEN 'filled'
    WHEN vecfill_l.vecfill_same AND vecfill_l.vecfill_open THEN 'refused'
    ELSE 'stale' END AS vecfill_outcome
  FROM {stage} AS vecfill_s
  LEFT JOIN vecfill_locked AS vecfill_l ON vecfill_l.vecfill_n OPERATOR(pg_catalog.=) vecfill_s.vecfill_n
  LEFT JOIN vecfill_written AS vecfill_w ON vecfill_w.vecfill_n OPERATOR(pg_catalog.=) vecfill_s.vecfill_n)
SELECT vecfill_outcome, pg_catalog.count(*),
  CASE WHEN vecfill_outcome OPERATOR(pg_catalog.<>) 'updated'
    THEN pg_catalog.array_agg(vecfill_n ORDER BY vecfill_n) END
FROM vecfill_outcomes GROUP BY vecfill_outcome
"""


def name_keys(relation: Relation) -> Query:
    """Position, key as text, and whether the row is still there, of the staged rows at the positions ``$1``."""
    columns = [sql.SQL("vecfill_s.{}").format(sql.Identifier(f"vecfill_{name}")) for name in key_names(relation.arity)]
    key = columns[0] if len(columns) == 1 else sql.SQL("ROW({})").format(sql.SQL(", ").join(columns))
    return sql.SQL(
        "SELECT vecfill_s.vecfill_n, {key}::pg_catalog.text, EXISTS (SELECT FROM {source} WHERE {join})\n"
        "FROM {stage} AS vecfill_s\n"
        "WHERE vecfill_s.vecfill_n OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int4[]) ORDER BY 1"
    ).format(key=key, source=_target(relation), join=_join(relation), stage=_STAGE)


def rewritten(relation: Relation) -> Query:
    """Positions of the rows just updated whose text is no longer the staged one; ``$1`` are those not updated.

    A statement of its own, so that it sees what triggers did AFTER the update.
    """
    return sql.SQL(
        "SELECT vecfill_s.vecfill_n FROM {stage} AS vecfill_s JOIN {source} ON {join}\n"
        "WHERE NOT vecfill_s.vecfill_n OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int4[]) AND NOT {same}"
    ).format(stage=_STAGE, source=_target(relation), join=_join(relation), same=_same(relation))


def lockable(relation: Relation) -> Query:
    """Positions among ``$1`` whose row this role may lock now; an error 55P03 where another holds one of them."""
    return sql.SQL(
        "SELECT vecfill_s.vecfill_n FROM {stage} AS vecfill_s JOIN {source} ON {join}\n"
        "WHERE vecfill_s.vecfill_n OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int4[])\n"
        "FOR NO KEY UPDATE OF {alias} NOWAIT"
    ).format(stage=_STAGE, source=_target(relation), join=_join(relation), alias=sql.Identifier(relation.alias))
