"""The statements that find and read the eligible rows of a target. Pure, and following the rules of ``target_sql``.

A tid is a row's place: ``(12,3)`` is the third row of heap page 12. Excluded keys are the texts that the server
returned when their rows failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from psycopg import sql

from vecfill.blocks import key_names
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import Query, column, key_text, target, where
from vecfill.postgres.template import hash_expression

_BOUNDS: dict[str, LiteralString] = {
    "from": "{tid} OPERATOR(pg_catalog.>=) {value}::pg_catalog.tid",
    "to": "{tid} OPERATOR(pg_catalog.<) {value}::pg_catalog.tid",
    "at": "{tid} OPERATOR(pg_catalog.=) ANY ({value}::pg_catalog.tid[])",
    "part": "{part} OPERATOR(pg_catalog.=) ANY ({value}::pg_catalog.oid[])",
    "excluded": "NOT {key} OPERATOR(pg_catalog.=) ANY ({value}::pg_catalog.text[])",
}
"""Conditions with one parameter each: rows from a tid on, before a tid, at a list of tids, in a list of partitions, not
in a list of keys."""


def leaf_source(leaf: Leaf, relation: Relation, bounds: Sequence[str] = (), first: int = 0) -> sql.Composed:
    """Returns a leaf's rows for FROM; of a queue the target's rows that its entries name, once each.

    The entries are those within the bounds, whose parameters are numbered from ``first``.
    """
    if not leaf.queue:
        return sql.SQL("{only}{name} AS {alias}").format(
            only=sql.SQL("ONLY " if leaf.only else ""), name=leaf.name, alias=sql.Identifier(relation.table.alias)
        )
    naming = relation.naming
    place = sql.SQL("vecfill_c.ctid")
    places = [place_bound(bound, place, number) for number, bound in enumerate(bounds, first) if bound != "excluded"]
    return sql.SQL(
        "(SELECT DISTINCT ON ({keys}) {named}, vecfill_c.ctid AS vecfill_tid FROM {entries} AS vecfill_c\n"
        "   WHERE {within} ORDER BY {keys}, vecfill_c.ctid) AS vecfill_q JOIN {source} ON {join}"
    ).format(
        keys=naming.keys_of("vecfill_c"),
        named=naming.named_keys_of("vecfill_c"),
        entries=leaf.name,
        within=sql.SQL(" AND ").join([naming.waits(listed="at" in bounds), *places]),
        source=target(relation),
        join=naming.is_named_row(relation.table.alias, "vecfill_q"),
    )


def place_bound(bound: str, place: sql.Composable, number: int) -> sql.Composed:
    """Condition: a place is within the bound ``from``, ``to`` or ``at``, whose parameter has this number."""
    return sql.SQL(_BOUNDS[bound]).format(tid=place, value=sql.SQL(f"${number}"))


def place(relation: Relation, leaf: Leaf) -> sql.Composed:
    """Returns the place of a leaf's row, or of its entry in the queue of changes."""
    name = ("vecfill_q", "vecfill_tid") if leaf.queue else (relation.table.alias, "ctid")
    return sql.SQL("{}").format(sql.Identifier(*name))


def within(
    condition: sql.Composable, relation: Relation, leaf: Leaf, bounds: Sequence[str], first: int
) -> sql.Composed:
    """Returns a condition within bounds, whose parameters are numbered from ``first``.

    It is not evaluated on excluded rows, as they may be unreadable.
    """
    conditions = {
        bound: sql.SQL(_BOUNDS[bound]).format(
            tid=place(relation, leaf),
            part=column(relation, "tableoid"),
            key=key_text(relation),
            value=sql.SQL(f"${number}"),
        )
        for number, bound in enumerate(bounds, first)
    }
    if included := conditions.pop("excluded", None):
        condition = sql.SQL("CASE WHEN {} THEN {} ELSE false END").format(included, condition)
    return sql.SQL("\n    AND ").join([condition, *conditions.values()])


def _excluded(relation: Relation) -> sql.Composed:
    """Condition: the row's key is in ``$2``."""
    return sql.SQL("{} OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[])").format(key_text(relation))


def survey(selection: Selection, relation: Relation, leaf: Leaf, bounds: Sequence[str] = ()) -> Query:
    """Counts a leaf's rows, and the eligible ones by bucket: one scan gives both the coverage and the plan.

    ``$1`` is the number of heap pages in a bucket, ``$2`` the excluded keys; one parameter for each bound follows.
    Result columns: bucket (NULL for rows that will not be read), state, rows, bytes of text.
    """
    measured = selection.open(relation) if relation.tracking is None else sql.SQL("true")
    return sql.SQL(_SURVEY).format(
        tid=place(relation, leaf),
        open=measured,
        state=selection.state(relation, _excluded(relation)),
        size=relation.user_sql.size,
        selected=sql.SQL("{}::pg_catalog.text[]").format(sql.Literal("{" + ",".join(selection.reasons) + "}")),
        source=leaf_source(leaf, relation, bounds, 3),
        conditions=within(where(relation), relation, leaf, bounds, 3),
    )


_SURVEY = """
SELECT vecfill_bucket, vecfill_state, pg_catalog.count(*), COALESCE(pg_catalog.sum(vecfill_bytes), 0)::pg_catalog.int8
FROM (
  SELECT vecfill_state,
    CASE WHEN vecfill_state OPERATOR(pg_catalog.=) ANY ({selected}) THEN pg_catalog.int8div(
      (vecfill_tid::pg_catalog.text::pg_catalog.point)[0]::pg_catalog.int8, $1::pg_catalog.int8) END AS vecfill_bucket,
    CASE WHEN vecfill_state OPERATOR(pg_catalog.=) ANY ({selected}) THEN vecfill_size END AS vecfill_bytes
  FROM (
    SELECT {tid} AS vecfill_tid, CASE WHEN {open} THEN {size} END AS vecfill_size, {state} AS vecfill_state
    FROM {source}
    WHERE {conditions} OFFSET 0) AS vecfill_rows) AS vecfill_states
GROUP BY vecfill_bucket, vecfill_state
"""


def list_open_rows(
    selection: Selection, relation: Relation, leaf: Leaf, bounds: Sequence[str] = (), *, excluded: bool
) -> Query:
    """Selects up to ``$1`` open rows: tid, state, bytes of text. ``$2`` are the excluded keys, if any.

    One parameter for each bound follows.
    """
    condition = sql.SQL("{} AND {}").format(selection.open(relation), where(relation))
    return sql.SQL(
        "SELECT {tid}::pg_catalog.text, {state}, {size}\nFROM {source} WHERE {conditions} LIMIT $1::pg_catalog.int8"
    ).format(
        tid=place(relation, leaf),
        state=selection.state(relation, _excluded(relation) if excluded else None),
        size=relation.user_sql.size,
        source=leaf_source(leaf, relation),
        conditions=within(condition, relation, leaf, bounds, 3 if excluded else 2),
    )


def explain_open_rows(selection: Selection, relation: Relation, leaf: Leaf) -> Query:
    """Explains, as JSON, how the server would find the open rows."""
    return sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {} WHERE {} AND {}").format(
        leaf_source(leaf, relation), selection.open(relation), where(relation)
    )


def explain_selected_rows(relation: Relation, leaf: Leaf) -> Query:
    """Explains, as JSON, the scan of all rows that ``where`` selects: the plan holds the estimated row count."""
    return sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {} WHERE {}").format(leaf_source(leaf, relation), where(relation))


def count_sampled_rows(relation: Relation, leaf: Leaf, percent: float) -> Query:
    """Counts the rows that ``where`` selects on some of the leaf's pages, always the same ones."""
    return sql.SQL("SELECT pg_catalog.count(*) FROM {} TABLESAMPLE SYSTEM ({}) REPEATABLE (0) WHERE {}").format(
        leaf_source(leaf, relation), sql.Literal(percent), where(relation)
    )


def heap_bytes(leaf: Leaf) -> Query:
    """Returns the size of a leaf's heap."""
    return sql.SQL("SELECT pg_catalog.pg_relation_size({}::pg_catalog.regclass)").format(
        sql.Literal(leaf.name.as_string())
    )


def split_rows(selection: Selection, relation: Relation, leaf: Leaf, bounds: Sequence[str]) -> Query:
    """Splits a part of a leaf into runs of at most ``$2`` rows and ``$1`` bytes of text, not counting the last row.

    The parameters of the bounds follow. Result columns, in heap order: first tid, rows, bytes of text.
    """
    return sql.SQL(_SPLIT_ROWS).format(
        tid=place(relation, leaf),
        size=relation.user_sql.size,
        source=leaf_source(leaf, relation, bounds, 3),
        conditions=within(selection.eligible(relation), relation, leaf, bounds, 3),
    )


_SPLIT_ROWS = """
SELECT pg_catalog.min(vecfill_tid)::pg_catalog.text, pg_catalog.count(*), pg_catalog.sum(vecfill_bytes)::pg_catalog.int8
FROM (
  SELECT vecfill_tid, vecfill_bytes,
    pg_catalog.int8div(pg_catalog.sum(vecfill_bytes) OVER vecfill_before::pg_catalog.int8
      OPERATOR(pg_catalog.-) vecfill_bytes, $1::pg_catalog.int8) AS vecfill_full,
    pg_catalog.int8div(pg_catalog.row_number() OVER vecfill_before OPERATOR(pg_catalog.-) 1::pg_catalog.int8,
      $2::pg_catalog.int8) AS vecfill_many
  FROM (
    SELECT {tid} AS vecfill_tid, {size}::pg_catalog.int8 AS vecfill_bytes
    FROM {source}
    WHERE {conditions}) AS vecfill_rows
  WINDOW vecfill_before AS (ORDER BY vecfill_tid ROWS UNBOUNDED PRECEDING)) AS vecfill_runs
GROUP BY vecfill_full, vecfill_many
ORDER BY pg_catalog.min(vecfill_tid)
"""


def read(selection: Selection, relation: Relation, leaf: Leaf, bounds: Sequence[str]) -> Query:
    """Reads the eligible rows within bounds: a TID (Range) Scan, or the planner's choice for a whole leaf.

    ``$1`` is the row limit; one parameter for each bound follows. Result columns: the key columns, the text, its hash,
    the row's state.

    Args:
        selection: the rows to take.
        relation: the target.
        leaf: one of its leaves.
        bounds: some of ``from``, ``to``, ``at`` and ``excluded``.
    """
    return sql.SQL(
        "SELECT {names}, vecfill_text, {hash}, vecfill_state\n"
        "FROM (SELECT {keys}, {text} AS vecfill_text, {state} AS vecfill_state\n  FROM {source}\n  WHERE {conditions}\n"
        "  LIMIT $1::pg_catalog.int8) AS vecfill_rows"
    ).format(
        names=sql.SQL(", ").join(sql.Identifier(name) for name in key_names(relation.table.arity)),
        hash=hash_expression(sql.Identifier("vecfill_text")),
        keys=sql.SQL(", ").join(
            sql.SQL("{}({}) AS {}").format(part.send, column(relation, part.name), sql.Identifier(name))
            for part, name in zip(relation.table.key, key_names(relation.table.arity), strict=True)
        ),
        text=relation.user_sql.text,
        state=sql.Literal(selection.name),
        source=leaf_source(leaf, relation, bounds, 2),
        conditions=within(selection.eligible(relation), relation, leaf, bounds, 2),
    )


def read_one(relation: Relation, leaf: Leaf, bounds: Sequence[str]) -> Query:
    """Evaluates the user's SQL on one row within bounds that ``where`` selects; the bounds have one parameter each."""
    condition = sql.SQL("(NOT {} AND {})").format(relation.user_sql.blank, where(relation))
    return sql.SQL("SELECT {hash} FROM {source} WHERE {conditions} LIMIT 1").format(
        hash=hash_expression(relation.user_sql.text),
        source=leaf_source(leaf, relation, bounds, 1),
        conditions=within(condition, relation, leaf, bounds, 1),
    )


def suggested_index(relation: Relation, leaf: Leaf) -> Query:
    """Returns the DDL of a partial index that lists the rows of a leaf without a vector."""
    return sql.SQL("CREATE INDEX CONCURRENTLY ON {} ({}) WHERE {} IS NULL").format(
        leaf.name,
        sql.SQL(", ").join(sql.Identifier(part.name) for part in relation.table.key),
        sql.Identifier(relation.table.vector.name),
    )
