"""The statements that read the user's table, made from the introspected target. Pure: SQL text in, SQL text out.

Those that write are in ``landing``.

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


def target(relation: Relation) -> sql.Composed:
    """The target as it stands in FROM and UPDATE: without its children where it is no partitioned table."""
    return sql.SQL("{only}{name} AS {alias}").format(
        only=sql.SQL("ONLY " if relation.plain else ""), name=relation.name, alias=sql.Identifier(relation.alias)
    )


def column(relation: Relation, name: str) -> sql.Identifier:
    """A column of the target's row."""
    return sql.Identifier(relation.alias, name)


def embedding(relation: Relation) -> sql.Identifier:
    """The embedding column of the target's row."""
    return column(relation, relation.vector.name)


def _where(relation: Relation) -> sql.Composed:
    return sql.SQL("(\n{}\n)").format(relation.where if relation.where is not None else sql.SQL("true"))


def eligible(relation: Relation) -> Query:
    """Condition: no vector yet, something to embed, and the user's ``where``."""
    return sql.SQL("({embedding} IS NULL AND NOT {blank} AND {where})").format(
        embedding=embedding(relation), blank=relation.blank, where=_where(relation)
    )


def survey(relation: Relation, leaf: Leaf) -> Query:
    """Counts a leaf's rows, the eligible ones by where they lie: one scan gives the coverage and the plan.

    ``$1`` is the number of heap pages in a bucket. Rows: bucket (NULL for rows that are not eligible), rows, rows with
    a vector, empty rows, bytes of text.
    """
    return sql.SQL(_SURVEY).format(
        alias=sql.Identifier(relation.alias),
        embedding=embedding(relation),
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
            sql.SQL("{}({}) AS {}").format(part.send, column(relation, part.name), sql.Identifier(name))
            for part, name in zip(relation.key, key_names(relation.arity), strict=True)
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
        embedding=embedding(relation),
        source=target(relation),
        tablesample=tablesample,
        blank=relation.blank,
    )


def checks(relation: Relation, *, writing: bool = True) -> Iterator[tuple[str, Query]]:
    """Yields what each statement checks, and the statement: an EXPLAIN, which needs the same rights and runs nothing.

    Without ``writing`` they need no right but SELECT, and leave out what only a run uses.

    The user's SQL comes alone and as we use it: alone, ``true) or (true`` does not parse; in brackets on its own
    lines, ``true union select 1`` does not.
    """
    source = target(relation)
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
            embedding(relation),
            sql.Identifier(relation.alias),
            source,
            eligible(relation),
        ),
    )
    if writing:
        yield "--column", _explain("UPDATE {} SET {} = NULL", source, sql.Identifier(relation.vector.name))


def _explain(query: LiteralString, *parts: sql.Composable) -> Query:
    return sql.SQL("EXPLAIN {}").format(sql.SQL(query).format(*parts))
