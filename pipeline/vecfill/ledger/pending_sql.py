"""The statements that count what a run would find in the queue once it has settled it. Pure; they write nothing."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecfill.ledger.failure_sql import due
from vecfill.ledger.queue_sql import edited, entry_within, has_origin
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import CHANGED, EMPTIED, OUTDATED, Selection, failed
from vecfill.postgres.target_sql import Query, target, where


def queued(selection: Selection, relation: Relation, bounds: Sequence[str], scanned: int) -> Query:
    """Counts the rows that the queue names, once each, by the state in which a settled queue would show them.

    An edited row whose vector is of unknown origin counts as changed, see ``queue_sql.note_edits``.

    Args:
        selection: the rows to take.
        relation: the tracked target.
        bounds: ``from`` and ``to``, the part of the queue.
        scanned: number of the parameter, an array of the oids of the tables that are counted as a whole: of their rows
            only those are counted that become changed by an edit.

    Result columns: state, rows, bytes of text, and whether the row is one of those tables'.
    """
    tracking = relation.ledger
    noted = sql.SQL("(vecfill_c.edited AND NOT {} AND NOT {})").format(
        selection.missing(relation), has_origin(relation)
    )
    state = sql.SQL("CASE WHEN {noted} THEN {after} ELSE {state} END").format(
        noted=noted, after=_state_of_edited(relation), state=selection.state(relation, None)
    )
    entries = sql.SQL(
        "(SELECT {keys}, pg_catalog.bool_or({edited}) AS edited FROM {changes} AS vecfill_c WHERE {within}\n"
        "   GROUP BY {keys}) AS vecfill_c"
    ).format(
        keys=tracking.keys_of("vecfill_c"),
        edited=edited(relation),
        changes=tracking.changes,
        within=entry_within(bounds),
    )
    return _counted(relation, entries, state=state, scanned=scanned, also=noted)


def retried(selection: Selection, relation: Relation, bounds: Sequence[str], scanned: int) -> Query:
    """Counts the failed rows to be tried again, except those that the queue names; see ``queued``.

    The bounds are places in the table of failures.
    """
    tracking = relation.ledger
    entries = sql.SQL(
        "(SELECT {keys} FROM {failures} AS vecfill_c WHERE {within} AND {due} AND NOT EXISTS (\n"
        "   SELECT FROM {changes} AS vecfill_d WHERE {same})) AS vecfill_c"
    ).format(
        keys=tracking.keys_of("vecfill_c"),
        failures=tracking.failures,
        within=entry_within(bounds),
        due=due(relation),
        changes=tracking.changes,
        same=tracking.same_key("vecfill_c", "vecfill_d"),
    )
    return _counted(relation, entries, state=selection.state(relation, None), scanned=scanned, also=sql.SQL("false"))


def _state_of_edited(relation: Relation) -> sql.Composed:
    return sql.SQL("CASE WHEN {} THEN {} WHEN {} THEN {} ELSE {} END").format(
        *(relation.user_sql.blank, sql.Literal(EMPTIED)),
        *(failed(relation), sql.Literal(OUTDATED)),
        sql.Literal(CHANGED),
    )


def _counted(
    relation: Relation,
    entries: sql.Composable,
    *,
    state: sql.Composable,
    scanned: int,
    also: sql.Composable,
) -> Query:
    return sql.SQL(_COUNTED).format(
        state=state,
        size=relation.user_sql.size,
        scanned=sql.SQL("{}.tableoid OPERATOR(pg_catalog.=) ANY (${}::pg_catalog.oid[])").format(
            sql.Identifier(relation.table.alias), sql.SQL(str(scanned))
        ),
        entries=entries,
        source=target(relation),
        is_row=relation.ledger.is_row(relation.table.alias, "vecfill_c"),
        where=where(relation),
        also=also,
    )


_COUNTED = """
SELECT vecfill_state, pg_catalog.count(*), COALESCE(pg_catalog.sum(vecfill_size), 0)::pg_catalog.int8, vecfill_scanned
FROM (
  SELECT {state} AS vecfill_state, {size} AS vecfill_size, {scanned} AS vecfill_scanned
  FROM {entries} JOIN {source} ON {is_row}
  WHERE {where} AND (NOT {scanned} OR {also})) AS vecfill_rows
GROUP BY vecfill_state, vecfill_scanned
"""
