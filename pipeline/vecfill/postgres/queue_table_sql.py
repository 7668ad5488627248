"""The statements on a queue table. Pure.

Each locks the entries that it changes by SKIP LOCKED, and so waits for nobody while it holds one: an application that
deletes a row holds the row and asks for its entries, and another worker holds an entry and asks for the row. Locked
entries are left to a later statement.
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from vecfill.postgres.queue_table import ENTRY, QueueTable
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import Query, target, where

Values = list[tuple[str, sql.Composable]]
"""Columns of the queue table, and what to assign to each."""


def counts(queue: QueueTable) -> Query:
    """Returns the number of entries by status, as text."""
    return sql.SQL(
        "SELECT {status}::pg_catalog.text, pg_catalog.count(*) FROM {queue} WHERE {own} GROUP BY {status}"
    ).format(status=sql.Identifier(ENTRY, queue.status), queue=entries(queue), own=queue.is_own())


def pending(relation: Relation) -> Query:
    """Returns the number of pending entries that ``claim`` may take."""
    queue = relation.queue_table
    return sql.SQL("SELECT pg_catalog.count(*) FROM {} WHERE {} AND {}").format(
        entries(queue), queue.has_status(queue.pending), _selected(relation)
    )


def has_work(relation: Relation) -> Query:
    """Returns whether an entry waits or is stuck whose row ``where`` selects."""
    queue, selected = relation.queue_table, _selected(relation)
    exists = sql.SQL("EXISTS (SELECT FROM {} WHERE {} AND {})")
    return sql.SQL("SELECT {} OR {}").format(
        exists.format(entries(queue), queue.has_status(queue.pending), selected),
        exists.format(entries(queue), queue.is_abandoned, selected),
    )


def null_fraction(relation: Relation) -> Query:
    """Returns the share of the target's rows without a vector by the planner's statistics, if there are any."""
    return sql.SQL(_NULL_FRACTION).format(
        oid=sql.Literal(relation.table.oid), column=sql.Literal(relation.table.vector.name)
    )


_NULL_FRACTION = """
SELECT s.null_frac FROM pg_catalog.pg_stats AS s, pg_catalog.pg_class AS c
WHERE c.oid OPERATOR(pg_catalog.=) {oid}::pg_catalog.oid AND s.tablename OPERATOR(pg_catalog.=) c.relname
  AND s.schemaname OPERATOR(pg_catalog.=) (
    SELECT n.nspname FROM pg_catalog.pg_namespace AS n WHERE n.oid OPERATOR(pg_catalog.=) c.relnamespace)
  AND s.attname OPERATOR(pg_catalog.=) {column}::pg_catalog.name
ORDER BY s.inherited DESC LIMIT 1
"""


def stuck(queue: QueueTable) -> Query:
    """Returns the number of processing entries to take over, and the age of the oldest claim in seconds."""
    age = (
        sql.SQL("(EXTRACT(epoch FROM {} OPERATOR(pg_catalog.-) pg_catalog.min({})))::pg_catalog.float8").format(
            queue.claimed.now, sql.Identifier(ENTRY, queue.claimed.name)
        )
        if queue.claimed
        else sql.SQL("NULL")
    )
    return sql.SQL("SELECT pg_catalog.count(*) FILTER (WHERE {}), {} FROM {} WHERE {}").format(
        queue.is_abandoned, age, entries(queue), queue.has_status(queue.processing)
    )


def overview(selection: Selection, relation: Relation) -> Query:
    """Counts the target's rows in one scan.

    Result columns: all rows, those with a vector, those without one and with nothing to embed; of the others those
    whose entries are all done, and those without an entry.
    """
    queue, alias = relation.queue_table, relation.table.alias
    done = sql.SQL("false") if queue.done is None else queue.has_status(queue.done)
    return sql.SQL(_OVERVIEW).format(
        missing=selection.missing(relation),
        blank=relation.user_sql.blank,
        named=queue.row_has(alias, sql.SQL("true")),
        undone=queue.row_has(alias, sql.SQL("NOT ({})").format(done)),
        source=target(relation),
        where=where(relation),
    )


_OVERVIEW = """
SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE vecfill_state OPERATOR(pg_catalog.=) 'filled'),
  pg_catalog.count(*) FILTER (WHERE vecfill_state OPERATOR(pg_catalog.=) 'empty'),
  pg_catalog.count(*) FILTER (WHERE vecfill_state OPERATOR(pg_catalog.=) 'done'),
  pg_catalog.count(*) FILTER (WHERE vecfill_state OPERATOR(pg_catalog.=) 'unnamed')
FROM (SELECT CASE WHEN NOT {missing} THEN 'filled' WHEN {blank} THEN 'empty' WHEN {undone} THEN 'open'
    WHEN {named} THEN 'done' ELSE 'unnamed' END AS vecfill_state
  FROM {source} WHERE {where} OFFSET 0) AS vecfill_rows
"""


def claim(relation: Relation) -> Query:
    """Claims the next ``$1`` pending entries; returns their new places, and whether their status is the new one.

    Entries whose row ``where`` does not select are another target's, or nobody's.
    """
    queue = relation.queue_table
    order = sql.SQL("ORDER BY {}").format(sql.SQL(", ").join(queue.order)) if queue.order else sql.SQL("")
    chosen = sql.SQL("{} AND {} {} LIMIT $1::pg_catalog.int8").format(
        queue.has_status(queue.pending), _selected(relation), order
    )
    returning = sql.SQL("{}.ctid::pg_catalog.text, {}").format(
        sql.Identifier(ENTRY), queue.has_status(queue.processing)
    )
    return update(queue, chosen, _claimed(queue), returning)


def settle(queue: QueueTable, condition: sql.Composable) -> Query:
    """Marks the free entries that meet a condition as done, or deletes them."""
    lock = sql.SQL("UPDATE" if queue.done is None else "NO KEY UPDATE")
    chosen = sql.SQL("SELECT {}.ctid AS vecfill_tid FROM {} WHERE {} FOR {} SKIP LOCKED").format(
        sql.Identifier(ENTRY), entries(queue), condition, lock
    )
    return sql.SQL("WITH vecfill_chosen AS MATERIALIZED (\n  {})\n{} RETURNING 1").format(chosen, settling(queue))


def checks(relation: Relation) -> Iterator[Query]:
    """Yields EXPLAINs that need the rights of all statements and check what they assign."""
    queue, true = relation.queue_table, sql.SQL("true")
    statements = (
        sql.SQL("SELECT FROM {} JOIN {} ON {}").format(
            entries(queue), target(relation), queue.is_row(relation.table.alias)
        ),
        update(queue, queue.is_abandoned, _claimed(queue)),
        settle(queue, true),
        update(queue, true, failure(queue, sql.SQL("''::pg_catalog.text"))),
    )
    return (sql.SQL("EXPLAIN {}").format(statement) for statement in statements)


def trials(queue: QueueTable) -> Iterator[tuple[str, Query]]:
    """Yields each change that a run makes of a status, made of one pending entry; returns whether it took effect."""
    one = sql.SQL("{} LIMIT 1").format(queue.has_status(queue.pending))
    changes: list[tuple[str, sql.Composable | None, Values]] = [
        ("--queue-processing", queue.processing, _claimed(queue)),
        ("--queue-failed", queue.failed, failure(queue, sql.SQL("'a trial'::pg_catalog.text"))),
        ("--queue-done", queue.done, _settled(queue) if queue.done else []),
    ]
    for option, value, values in changes:
        if value is not None:
            yield option, update(queue, one, values, queue.has_status(value))


def entries(queue: QueueTable) -> sql.Composed:
    """Returns the queue table for FROM, UPDATE and DELETE."""
    return sql.SQL("ONLY {} AS {}").format(queue.name, sql.Identifier(ENTRY))


def _selected(relation: Relation) -> sql.Composable:
    """Condition: ``where`` selects the entry's row, or there is none."""
    if relation.user_sql.where is None:
        return sql.SQL("true")
    return row_of_entry(relation, where(relation), absent=sql.SQL("true"))


def row_of_entry(relation: Relation, expression: sql.Composable, absent: sql.Composable) -> sql.Composed:
    """Evaluates an expression on the row that an entry names; ``absent`` if there is none."""
    return sql.SQL("COALESCE((SELECT {} FROM {} WHERE {}), {})").format(
        expression, target(relation), relation.queue_table.is_row(relation.table.alias), absent
    )


def update(
    queue: QueueTable, condition: sql.Composable, values: Values, returning: sql.Composable | None = None
) -> sql.Composed:
    """Updates the free entries that meet a condition."""
    return sql.SQL(_UPDATE).format(
        entry=sql.Identifier(ENTRY),
        queue=entries(queue),
        condition=condition,
        updating=updating(queue, values),
        returning=returning or sql.SQL("1"),
    )


_UPDATE = """
WITH vecfill_chosen AS MATERIALIZED (
  SELECT {entry}.ctid AS vecfill_tid FROM {queue} WHERE {condition} FOR NO KEY UPDATE SKIP LOCKED)
{updating} RETURNING {returning}
"""


def updating(queue: QueueTable, values: Values) -> sql.Composed:
    """Updates the entries of ``vecfill_chosen``."""
    assigned = (sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in values)
    return sql.SQL("UPDATE {} SET {} FROM vecfill_chosen WHERE {}").format(
        entries(queue), sql.SQL(", ").join(assigned), _CHOSEN
    )


def settling(queue: QueueTable) -> sql.Composed:
    """Settles the entries of ``vecfill_chosen``."""
    if queue.done is None:
        return sql.SQL("DELETE FROM {} USING vecfill_chosen WHERE {}").format(entries(queue), _CHOSEN)
    return updating(queue, _settled(queue))


_CHOSEN = sql.SQL("{}.ctid OPERATOR(pg_catalog.=) vecfill_chosen.vecfill_tid").format(sql.Identifier(ENTRY))


def _claimed(queue: QueueTable) -> Values:
    stamp: Values = [(queue.claimed.name, queue.claim_time)] if queue.claimed else []
    return [(queue.status, queue.processing), *stamp]


def failure(queue: QueueTable, message: sql.Composable) -> Values:
    """Returns what a failed row assigns to its entries."""
    values: Values = [(queue.status, queue.failed), *_finished(queue)]
    if queue.attempts:
        column = sql.Identifier(ENTRY, queue.attempts)
        values.append((queue.attempts, sql.SQL("COALESCE({}, 0) OPERATOR(pg_catalog.+) 1").format(column)))
    if queue.error:
        length = queue.error_length
        cut = sql.SQL("pg_catalog.left({}, {})").format(message, sql.Literal(length)) if length else message
        values.append((queue.error, cut))
    return values


def _settled(queue: QueueTable) -> Values:
    done = queue.done or sql.SQL("NULL")
    error: Values = [(queue.error, sql.SQL("NULL"))] if queue.error else []
    return [(queue.status, done), *error, *_finished(queue)]


def _finished(queue: QueueTable) -> Values:
    return [(queue.finished.name, queue.finished.now)] if queue.finished else []
