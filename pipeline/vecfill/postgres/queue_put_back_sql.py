"""The statements that put entries of a queue table back to pending, and the conditions that choose them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecfill.postgres.queue_table import ENTRY, QueueTable
from vecfill.postgres.queue_table_sql import Values, entries, row_of_entry, settle, update
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import Query, as_text, where


def put_back(queue: QueueTable, condition: sql.Composable) -> Query:
    """Puts the free entries that meet a condition back to pending.

    Where an index allows one pending entry per key, only the first of each key, and only if there is none yet:
    ``close_repeated`` settles the others.
    """
    if queue.single:
        condition = sql.SQL(_FIRST).format(
            condition=condition,
            repeated=_repeated(queue),
            entry=sql.Identifier(ENTRY),
            queue=entries(queue),
            same=_same_key(queue),
        )
    claimed: Values = [(queue.claimed.name, sql.SQL("NULL"))] if queue.claimed and queue.claimed.nullable else []
    return update(queue, condition, [(queue.status, queue.pending), *claimed])


_FIRST = """{condition} AND NOT {repeated} AND {entry}.ctid OPERATOR(pg_catalog.=) (
    SELECT pg_catalog.min(vecfill_o.vecfill_tid)
    FROM (SELECT {entry}.ctid AS vecfill_tid, {entry}.* FROM {queue} WHERE {condition}) AS vecfill_o WHERE {same})"""


def is_failed(queue: QueueTable, keys: Sequence[str] = ()) -> sql.Composed:
    """Condition: an entry failed, and its key as text is one of ``keys``, if there are any."""
    failed = queue.has_status(queue.failed)
    if not keys:
        return failed
    key = as_text([sql.Identifier(ENTRY, part.name) for part in queue.key])
    return sql.SQL("{} AND {} IN ({})").format(failed, key, sql.SQL(", ").join(map(sql.Literal, keys)))


def is_lost(selection: Selection, relation: Relation) -> sql.Composed:
    """Condition: the entry is the last of a row without a vector whose entries are all done."""
    queue = relation.queue_table
    others = sql.SQL("FROM {} AS vecfill_o WHERE {}").format(queue.name, _same_key(queue))
    done = queue.has_status(queue.done or sql.SQL("NULL"), "vecfill_o")
    without = sql.SQL("{} AND NOT {} AND {}").format(
        selection.missing(relation), relation.user_sql.blank, where(relation)
    )
    return sql.SQL(
        "{row} AND NOT EXISTS (SELECT {others} AND NOT ({done}))"
        " AND {entry}.ctid OPERATOR(pg_catalog.=) (SELECT pg_catalog.max(vecfill_o.ctid) {others})"
    ).format(
        row=row_of_entry(relation, without, absent=sql.SQL("false")),
        others=others,
        done=done,
        entry=sql.Identifier(ENTRY),
    )


def close_repeated(queue: QueueTable, condition: sql.Composable) -> Query:
    """Settles the free entries that meet a condition and whose key has a pending entry too, which stands for them."""
    return settle(queue, sql.SQL("{} AND {}").format(condition, _repeated(queue)))


def _repeated(queue: QueueTable) -> sql.Composed:
    """Condition: the key has another entry, which is pending."""
    return sql.SQL(
        "EXISTS (SELECT FROM {} AS vecfill_o WHERE {} AND {} AND vecfill_o.ctid OPERATOR(pg_catalog.<>) {}.ctid)"
    ).format(queue.name, _same_key(queue), queue.has_status(queue.pending, "vecfill_o"), sql.Identifier(ENTRY))


def _same_key(queue: QueueTable) -> sql.Composed:
    """Condition: another entry of this target has the key."""
    return sql.SQL("({}) OPERATOR(pg_catalog.=) ({}) AND {}").format(
        queue.keys_of("vecfill_o"), queue.keys_of(ENTRY), queue.is_own("vecfill_o")
    )
