"""The statements on the queue of changes. Pure.

An entry of the queue is a hint that a row may need a vector; what it needs, the hash of its text decides. An entry may
be deleted once its row, as the same snapshot shows it, needs nothing: an edit that commits later brings an entry of its
own. All conditions are correlated subqueries or nested loops by key, so the cost is that of the entries, not of the
table.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecfill.ledger.trigger_sql import EDITED, INSERTED
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.read_sql import place_bound
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import Query, column, target, where
from vecfill.postgres.tracking import UNKNOWN_MODEL


def _within(bounds: Sequence[str], first: int = 1) -> sql.Composed:
    place = sql.SQL("vecfill_c.ctid")
    conditions = [place_bound(bound, place, number) for number, bound in enumerate(bounds, first)]
    return sql.SQL(" AND ").join([sql.SQL("true"), *conditions])


def _row(relation: Relation, condition: sql.Composable) -> sql.Composed:
    """Condition: the entry's row exists and meets a condition. Never hashed: see the module."""
    return sql.SQL("COALESCE((SELECT {} FROM {} WHERE {}), false)").format(
        condition, target(relation), relation.ledger.is_row(relation.table.alias, "vecfill_c")
    )


def _has_origin(relation: Relation) -> sql.Composed:
    return sql.SQL("COALESCE((SELECT true FROM {} AS vecfill_v WHERE {}), false)").format(
        relation.ledger.vectors, relation.ledger.same_key("vecfill_v", "vecfill_c")
    )


def _emptied(selection: Selection, relation: Relation) -> sql.Composed:
    parts = relation.user_sql.blank, selection.missing(relation), where(relation)
    return sql.SQL("({} AND NOT {} AND {})").format(*parts)


def _edit(relation: Relation) -> sql.Composed:
    """Condition: the entry is of an edit. In a partitioned table a row that moves looks like a new one."""
    kinds = EDITED if relation.table.plain else EDITED + INSERTED
    return sql.SQL('vecfill_c.kind OPERATOR(pg_catalog.=) ANY ({}::pg_catalog."char"[])').format(
        sql.Literal("{" + ",".join(kinds) + "}")
    )


def remove_repeated(relation: Relation) -> Query:
    """Keeps one entry of each key and kind."""
    tracking = relation.ledger
    return sql.SQL(_REPEATED).format(
        changes=tracking.changes, columns=tracking.key_columns, same_key=tracking.same_key("vecfill_c", "vecfill_d")
    )


_REPEATED = """
DELETE FROM {changes} AS vecfill_c USING (
  SELECT {columns}, kind, pg_catalog.max(ctid) AS last FROM {changes}
  GROUP BY {columns}, kind HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1) AS vecfill_d
WHERE {same_key} AND vecfill_c.kind OPERATOR(pg_catalog.=) vecfill_d.kind
  AND vecfill_c.ctid OPERATOR(pg_catalog.<>) vecfill_d.last
"""


def note_edits(selection: Selection, relation: Relation, bounds: Sequence[str]) -> Query:
    """Gives edited rows whose vector is of unknown origin an entry in the ledger that makes them count as changed.

    Also rows that ``where`` excludes: it may select them later; and rows that may have moved between partitions.
    """
    tracking = relation.ledger
    return sql.SQL(
        "INSERT INTO {vectors} ({columns}, model, text_hash)\n"
        "SELECT DISTINCT {keys}, {unknown}, ''::pg_catalog.bytea FROM {changes} AS vecfill_c\n"
        "WHERE {edit} AND {within} AND NOT {known} AND {filled}\n"
        "ON CONFLICT DO NOTHING"
    ).format(
        vectors=tracking.vectors,
        columns=tracking.key_columns,
        keys=tracking.keys_of("vecfill_c"),
        edit=_edit(relation),
        unknown=sql.Literal(UNKNOWN_MODEL),
        changes=tracking.changes,
        within=_within(bounds),
        known=_has_origin(relation),
        filled=_row(relation, sql.SQL("NOT {}").format(selection.missing(relation))),
    )


def clear_emptied(selection: Selection, relation: Relation, bounds: Sequence[str]) -> Query:
    """Clears the vectors of queued rows whose text became empty, and returns their number; skips locked rows."""
    tracking = relation.ledger
    assignments = [
        sql.SQL("{} = NULL").format(sql.Identifier(relation.table.vector.name)),
        *(sql.SQL("{} = (\n{}\n)").format(sql.Identifier(name), text) for name, text in relation.user_sql.assignments),
    ]
    return sql.SQL(_CLEAR).format(
        own_keys=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(column(relation, own), sql.Identifier(name))
            for (own, _), name in zip(tracking.key, tracking.key_names, strict=True)
        ),
        changes=tracking.changes,
        vectors=tracking.vectors,
        source=target(relation),
        queued=tracking.is_row(relation.table.alias, "vecfill_c"),
        chosen=tracking.is_row(relation.table.alias, "vecfill_e"),
        known=_has_origin(relation),
        within=_within(bounds),
        emptied=_emptied(selection, relation),
        alias=sql.Identifier(relation.table.alias),
        assignments=sql.SQL(", ").join(assignments),
        cleared=tracking.same_key("vecfill_v", "vecfill_u"),
    )


_CLEAR = """
WITH vecfill_e AS MATERIALIZED (
  SELECT {own_keys} FROM {changes} AS vecfill_c JOIN {source} ON {queued}
  WHERE {within} AND {known} AND {emptied} FOR NO KEY UPDATE OF {alias} SKIP LOCKED),
vecfill_u AS (
  UPDATE {source} SET {assignments} FROM vecfill_e WHERE {chosen} AND {emptied} RETURNING {own_keys}),
vecfill_o AS (
  DELETE FROM {vectors} AS vecfill_v USING vecfill_u WHERE {cleared})
SELECT pg_catalog.count(*) FROM vecfill_u
"""


def settle(selection: Selection, relation: Relation, bounds: Sequence[str]) -> Query:
    """Deletes the entries whose row needs nothing, and the ledger's entries of rows that are gone.

    Where row-level policies apply, a row that is gone looks like a hidden one: its entries stay for another role.

    Args:
        selection: of the missing and changed rows.
        relation: the target.
        bounds: ``from`` and ``to``, the part of the queue.
    """
    tracking = relation.ledger
    exists = _row(relation, sql.SQL("true"))
    clearable = sql.SQL("false") if relation.table.vector.not_null else _emptied(selection, relation)
    unnoted = sql.SQL("({} AND NOT {} AND {})").format(
        _edit(relation), _has_origin(relation), _row(relation, sql.SQL("NOT {}").format(selection.missing(relation)))
    )
    return sql.SQL(_SETTLE).format(
        changes=tracking.changes,
        vectors=tracking.vectors,
        failures=tracking.failures,
        within=_within(bounds),
        unnoted=unnoted,
        emptied=sql.SQL("({} AND {})").format(_has_origin(relation), _row(relation, clearable)),
        hidden=sql.SQL("NOT {}").format(exists) if relation.access.policies else sql.SQL("false"),
        eligible=_row(relation, selection.eligible(relation)),
        exists=exists,
        keys=tracking.keys_of("vecfill_c"),
        no_vector=tracking.same_key("vecfill_v", "vecfill_g"),
        no_failure=tracking.same_key("vecfill_f", "vecfill_g"),
    )


_SETTLE = """
WITH vecfill_settled AS (
  DELETE FROM {changes} AS vecfill_c
  WHERE {within} AND NOT ({eligible} OR {unnoted} OR {emptied} OR {hidden})
  RETURNING {keys}, NOT {exists} AS gone),
vecfill_g AS (SELECT * FROM vecfill_settled WHERE gone),
vecfill_o AS (DELETE FROM {vectors} AS vecfill_v USING vecfill_g WHERE {no_vector}),
vecfill_p AS (
  DELETE FROM {failures} AS vecfill_f USING vecfill_settled AS vecfill_g
  WHERE {no_failure} AND (vecfill_g.gone OR vecfill_f.next_try OPERATOR(pg_catalog.<=) pg_catalog.now()))
SELECT pg_catalog.count(*) FROM vecfill_settled
"""


def queue_emptied(selection: Selection, relation: Relation, leaf: Leaf) -> Query:
    """Queues the rows of a leaf whose text became empty, for ``clear_emptied``."""
    tracking = relation.ledger
    return sql.SQL(
        "INSERT INTO {changes} ({columns}, kind) SELECT {keys}, 'U' FROM {source}\n"
        "WHERE {state} OPERATOR(pg_catalog.=) 'emptied' AND {where}"
    ).format(
        changes=tracking.changes,
        columns=tracking.key_columns,
        keys=sql.SQL(", ").join(column(relation, own) for own, _ in tracking.key),
        source=sql.SQL("{}{} AS {}").format(
            sql.SQL("ONLY " if leaf.only else ""), leaf.name, sql.Identifier(relation.table.alias)
        ),
        state=selection.state(relation, None),
        where=where(relation),
    )


def queue_due_failures(relation: Relation) -> Query:
    """Queues the failed rows whose next attempt is due, or that failed with another model."""
    tracking = relation.ledger
    return sql.SQL(
        "INSERT INTO {changes} ({columns}, kind) SELECT {columns}, 'R' FROM {failures}\n"
        "WHERE next_try OPERATOR(pg_catalog.<=) pg_catalog.now() OR model OPERATOR(pg_catalog.<>) {model}"
    ).format(
        model=sql.Literal(tracking.model),
        changes=tracking.changes,
        columns=tracking.key_columns,
        failures=tracking.failures,
    )


def forget_truncated(relation: Relation) -> Query:
    """After a TRUNCATE, removes the ledger's entries without a row, and the queue's entry of it; returns whether."""
    tracking = relation.ledger
    return sql.SQL(_TRUNCATED).format(
        changes=tracking.changes,
        vectors=tracking.vectors,
        failures=tracking.failures,
        source=target(relation),
        vector=tracking.is_row(relation.table.alias, "vecfill_v"),
        failure=tracking.is_row(relation.table.alias, "vecfill_f"),
    )


_TRUNCATED = """
WITH vecfill_t AS (DELETE FROM {changes} AS vecfill_c WHERE vecfill_c.kind OPERATOR(pg_catalog.=) 'T' RETURNING 1),
vecfill_o AS (
  DELETE FROM {vectors} AS vecfill_v WHERE EXISTS (SELECT FROM vecfill_t)
    AND NOT EXISTS (SELECT FROM {source} WHERE {vector})),
vecfill_p AS (
  DELETE FROM {failures} AS vecfill_f WHERE EXISTS (SELECT FROM vecfill_t)
    AND NOT EXISTS (SELECT FROM {source} WHERE {failure}))
SELECT pg_catalog.count(*) FROM vecfill_t
"""


def length(relation: Relation) -> Query:
    """Returns the number of entries, of distinct keys at most, and the age of the oldest in seconds."""
    return sql.SQL(
        "SELECT pg_catalog.count(*), (EXTRACT(epoch FROM pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.min(at)))"
        "::pg_catalog.float8 FROM {}"
    ).format(relation.ledger.changes)


def size(relation: Relation) -> Query:
    """Returns the size of the queue in bytes."""
    return sql.SQL("SELECT pg_catalog.pg_relation_size({}::pg_catalog.regclass)").format(
        sql.Literal(relation.ledger.changes.as_string())
    )
