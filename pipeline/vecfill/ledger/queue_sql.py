"""The statements on the queue of changes. Pure.

An entry of the queue is a hint that a row may need a vector; what it needs, the hash of its text decides. An entry may
be deleted once its row, as the same snapshot shows it, needs nothing: an edit that commits later brings an entry of its
own. All conditions are correlated subqueries or nested loops by key, so the cost is that of the entries, not of the
table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from psycopg import sql

from vecfill.postgres.read_sql import place_bound
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection, failed
from vecfill.postgres.target_sql import Query, target, where
from vecfill.postgres.tracking import UNKNOWN_MODEL


def entry_within(bounds: Sequence[str], first: int = 1) -> sql.Composed:
    """Condition: the entry is within the bounds, whose parameters are numbered from ``first``."""
    place = sql.SQL("vecfill_c.ctid")
    conditions = [place_bound(bound, place, number) for number, bound in enumerate(bounds, first)]
    return sql.SQL(" AND ").join([sql.SQL("true"), *conditions])


def entry_row(relation: Relation, condition: sql.Composable, entry: str = "vecfill_c") -> sql.Composed:
    """Condition: the entry's row exists and meets a condition. Never hashed: see the module."""
    return sql.SQL("COALESCE((SELECT {} FROM {} WHERE {}), false)").format(
        condition, target(relation), relation.ledger.is_row(relation.table.alias, entry)
    )


def has_origin(relation: Relation) -> sql.Composed:
    """Condition: the ledger has an entry of the row that the queue's entry names."""
    return sql.SQL("COALESCE((SELECT true FROM {} AS vecfill_v WHERE {}), false)").format(
        relation.ledger.vectors, relation.ledger.same_key("vecfill_v", "vecfill_c")
    )


def edited(relation: Relation) -> sql.Composed:
    """Condition: the entry's row was edited, or moved to another key: deleted and inserted by one transaction.

    A row that moves between partitions fires the triggers of both, and takes its vector along, outdated or not.
    """
    return sql.SQL(
        "(vecfill_c.kind OPERATOR(pg_catalog.=) 'U' OR vecfill_c.kind OPERATOR(pg_catalog.=) 'I' AND {})"
    ).format(_beside(relation, "D"))


def _beside(relation: Relation, kind: LiteralString) -> sql.Composed:
    """Condition: the entry's transaction made an entry of this kind."""
    return sql.SQL(
        "vecfill_c.at IN (\n    SELECT DISTINCT vecfill_d.at FROM {} AS vecfill_d"
        " WHERE vecfill_d.kind OPERATOR(pg_catalog.=) {})"
    ).format(relation.ledger.changes, sql.Literal(kind))


def moves(relation: Relation) -> Query:
    """Returns the times of the transactions that deleted rows and inserted rows, see ``edited``."""
    return sql.SQL("SELECT DISTINCT vecfill_c.at FROM {} AS vecfill_c WHERE {}").format(
        relation.ledger.changes, _of_a_move(relation)
    )


def _of_a_move(relation: Relation) -> sql.Composed:
    """Condition: the entry's transaction deleted rows and inserted rows."""
    return sql.SQL("{} AND {}").format(_beside(relation, "I"), _beside(relation, "D"))


def is_emptied(selection: Selection, relation: Relation) -> sql.Composed:
    """Condition: a row has a vector, but no text any more."""
    return sql.SQL("({} AND NOT {} AND {})").format(
        relation.user_sql.blank, selection.missing(relation), where(relation)
    )


def _is_unnoted(selection: Selection, relation: Relation) -> sql.Composed:
    """Condition: the entry's row was edited, and its vector is of unknown origin; see ``note_edits``."""
    filled = entry_row(relation, sql.SQL("NOT {}").format(selection.missing(relation)))
    return sql.SQL("({} AND NOT {} AND {})").format(edited(relation), has_origin(relation), filled)


def remove_repeated(relation: Relation) -> Query:
    """Keeps one entry of each key and kind; all of those that tell a row that moved, see ``edited``."""
    tracking = relation.ledger
    return sql.SQL(_REPEATED).format(
        changes=tracking.changes, columns=tracking.key_columns, same_key=tracking.same_key("vecfill_c", "vecfill_d")
    )


_REPEATED = """
DELETE FROM {changes} AS vecfill_c USING (
  SELECT {columns}, kind, pg_catalog.max(ctid) AS last FROM {changes}
  WHERE kind OPERATOR(pg_catalog.<>) 'I' AND kind OPERATOR(pg_catalog.<>) 'D'
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
        "WHERE {within} AND {unnoted}\n"
        "ON CONFLICT DO NOTHING"
    ).format(
        vectors=tracking.vectors,
        columns=tracking.key_columns,
        keys=tracking.keys_of("vecfill_c"),
        unknown=sql.Literal(UNKNOWN_MODEL),
        changes=tracking.changes,
        within=entry_within(bounds),
        unnoted=_is_unnoted(selection, relation),
    )


def settle(selection: Selection, relation: Relation, bounds: Sequence[str]) -> Query:
    """Deletes the entries whose row needs nothing, the ledger's entries of deleted rows, and outdated failures.

    An edited row that is gone without having been deleted is in a partition that was detached: should it come back, it
    counts as changed.

    Where row-level policies apply, a row that is gone looks like a hidden one: its entries stay for another role.

    The entries of a transaction that deleted and inserted rows after the edits were noted stay: without those of the
    deleted rows, nothing would tell that the others may have moved.

    Args:
        selection: of the missing and changed rows.
        relation: the target.
        bounds: ``from`` and ``to``, the part of the queue. One parameter follows theirs: what ``moves`` returned before
            ``note_edits``.
    """
    tracking = relation.ledger
    exists = entry_row(relation, sql.SQL("true"))
    clearable = sql.SQL("false") if relation.table.vector.not_null else is_emptied(selection, relation)
    return sql.SQL(_SETTLE).format(
        changes=tracking.changes,
        vectors=tracking.vectors,
        failures=tracking.failures,
        within=entry_within(bounds),
        unnoted=_is_unnoted(selection, relation),
        emptied=sql.SQL("({} AND {})").format(has_origin(relation), entry_row(relation, clearable)),
        eligible=entry_row(relation, selection.eligible(relation)),
        hidden=sql.SQL("NOT {}").format(exists) if relation.access.policies else sql.SQL("false"),
        late=sql.SQL("({} AND vecfill_c.at OPERATOR(pg_catalog.<>) ALL (${}::pg_catalog.timestamptz[]))").format(
            _of_a_move(relation), sql.SQL(str(len(bounds) + 1))
        ),
        exists=exists,
        keys=tracking.keys_of("vecfill_c"),
        columns=tracking.key_columns,
        unknown=sql.Literal(UNKNOWN_MODEL),
        no_vector=tracking.same_key("vecfill_v", "vecfill_g"),
        no_failure=tracking.same_key("vecfill_f", "vecfill_g"),
        failed=entry_row(relation, sql.SQL("{} AND {}").format(failed(relation), where(relation)), "vecfill_g"),
    )


_SETTLE = """
WITH vecfill_settled AS (
  DELETE FROM {changes} AS vecfill_c
  WHERE {within} AND NOT ({eligible} OR {unnoted} OR {emptied} OR {hidden} OR {late})
  RETURNING {keys}, kind, NOT {exists} AS gone),
vecfill_g AS (
  SELECT {columns}, pg_catalog.bool_or(kind OPERATOR(pg_catalog.=) 'D') AS deleted FROM vecfill_settled WHERE gone
  GROUP BY {columns}),
vecfill_o AS (DELETE FROM {vectors} AS vecfill_v USING vecfill_g WHERE {no_vector} AND vecfill_g.deleted),
vecfill_a AS (
  UPDATE {vectors} AS vecfill_v SET model = {unknown}, text_hash = ''::pg_catalog.bytea FROM vecfill_g
  WHERE {no_vector} AND NOT vecfill_g.deleted),
vecfill_p AS (
  DELETE FROM {failures} AS vecfill_f USING vecfill_settled AS vecfill_g
  WHERE {no_failure} AND NOT {failed})
SELECT pg_catalog.count(*) FROM vecfill_settled
"""


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
    """Returns the number of entries, of distinct keys at most, the age of the oldest in seconds, and the size."""
    return sql.SQL(
        "SELECT pg_catalog.count(*), (EXTRACT(epoch FROM pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.min(at)))"
        "::pg_catalog.float8, pg_catalog.pg_relation_size({}::pg_catalog.regclass) FROM {}"
    ).format(sql.Literal(relation.ledger.changes.as_string()), relation.ledger.changes)


def size(relation: Relation) -> Query:
    """Returns the size of the queue in bytes."""
    return sql.SQL("SELECT pg_catalog.pg_relation_size({}::pg_catalog.regclass)").format(
        sql.Literal(relation.ledger.changes.as_string())
    )
