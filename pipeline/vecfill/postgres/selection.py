"""The selection: which rows a run takes, as conditions on a row of the target. Pure.

Every statement that must recognise an eligible row uses the selection, so a new selection is a new value, not a new
statement. On a tracked target a selection also asks the ledger: its conditions are scalar subqueries, which the server
always answers by one index lookup a row, whatever its statistics say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from vecfill.config.target import Target
from vecfill.postgres.queue_table import QueueTable
from vecfill.postgres.relation import Relation
from vecfill.postgres.target_sql import embedding, is_zero, where
from vecfill.postgres.template import hash_expression
from vecfill.postgres.tracking import UNKNOWN_MODEL

FILLED, EMPTY, EXCLUDED = "filled", "empty", "excluded"
"""States of a row that is not eligible: it has its vector, it has no text, or the caller excludes it."""

UNKNOWN, EMPTIED, FAILED, OUTDATED = "unknown", "emptied", "failed", "outdated"
"""More such states on a tracked target: nobody knows what made the vector, the text of the vector is gone, or the row
failed before and its next attempt is not due, without a vector or with an outdated one."""

MISSED, CHANGED, OTHER_MODEL = "missing", "changed", "other_model"
"""Reasons to take a row."""

QUEUED = "queued"
"""Reason to take a row that has a vector: an open entry of the target's queue table names it."""

Select = Literal["missing", "changed", "all"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Rows to take.

    Attributes:
        name: written into a block as the reason.
        missing: condition: the row has no vector; never NULL.
        reasons: states of an eligible row.
        refresh: expression on a tracked target, or one with a queue table: the state of a row with a vector and a text.
    """

    name: str
    missing: Callable[[Relation], sql.Composable]
    reasons: tuple[str, ...] = (MISSED,)
    refresh: Callable[[Relation], sql.Composable] | None = None

    def open(self, relation: Relation) -> sql.Composable:
        """Condition: the row's vector must be written, whatever its text; never NULL, and false once it is written."""
        untried = missing = self.missing(relation)
        if relation.tracking is None and relation.queue is None:
            return missing
        if relation.tracking is not None:
            untried = sql.SQL("({} AND NOT {})").format(missing, failed(relation))
        if self.refresh is None or self.reasons == (MISSED,):
            return untried
        return sql.SQL("({} OR NOT {} AND {} OPERATOR(pg_catalog.=) ANY ({}))").format(
            untried, missing, self.refresh(relation), _texts(self.reasons)
        )

    def eligible(self, relation: Relation) -> sql.Composed:
        """Condition to read a row and, once it is locked, to write it: open, not blank, and the user's ``where``.

        After locking, PostgreSQL evaluates it on the newest version of the row.
        """
        return sql.SQL("({open} AND NOT {blank} AND {where})").format(
            open=self.open(relation), blank=relation.user_sql.blank, where=where(relation)
        )

    def state(self, relation: Relation, excluded: sql.Composable | None) -> sql.Composed:
        """Expression for the state of a row: one of the constants of this module.

        Args:
            relation: the target.
            excluded: condition: the row is excluded; None excludes no row.
        """
        exclude = sql.SQL(" WHEN {} THEN {}").format(excluded, sql.Literal(EXCLUDED)) if excluded else sql.SQL("")
        tracked = relation.tracking is not None
        return sql.SQL(
            "CASE WHEN NOT {missing} THEN {filled} WHEN {blank} THEN {empty}{failed}{exclude} ELSE {name} END"
        ).format(
            missing=self.missing(relation),
            filled=self._filled(relation),
            blank=relation.user_sql.blank,
            empty=sql.Literal(EMPTY),
            failed=sql.SQL(" WHEN {} THEN {}").format(failed(relation), sql.Literal(FAILED))
            if tracked
            else sql.SQL(""),
            exclude=exclude,
            name=sql.Literal(MISSED),
        )

    def _filled(self, relation: Relation) -> sql.Composable:
        """The state of a row that has a vector."""
        if self.refresh is None or (relation.tracking is None and relation.queue is None):
            return sql.Literal(FILLED)
        if relation.tracking is None:
            return sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(
                relation.user_sql.blank, sql.Literal(FILLED), self.refresh(relation)
            )
        return sql.SQL("CASE WHEN {blank} THEN {emptied} ELSE {refresh} END").format(
            blank=relation.user_sql.blank, emptied=self._emptied(relation), refresh=self.refresh(relation)
        )

    def _emptied(self, relation: Relation) -> sql.Composed:
        """State of a row with a vector and a blank text: ``emptied`` if the vector is known to come from another text.

        Also if nobody knows where it comes from, where such vectors are replaced.
        """
        unknown = EMPTIED if UNKNOWN in self.reasons else FILLED
        return recorded(relation, sql.Literal(EMPTIED), sql.Literal(unknown))


def _texts(names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL("{}::pg_catalog.text[]").format(sql.Literal("{" + ",".join(names) + "}"))


def recorded(relation: Relation, expression: sql.Composable, absent: sql.Composable) -> sql.Composed:
    """Evaluates an expression over the ledger's entry ``vecfill_v`` of the row, or ``absent`` without an entry."""
    tracking = relation.ledger
    return sql.SQL("COALESCE((SELECT {} FROM {} AS vecfill_v WHERE {}), {})").format(
        expression, tracking.vectors, tracking.is_row(relation.table.alias, "vecfill_v"), absent
    )


def failed(relation: Relation) -> sql.Composed:
    """Condition: this model (without one, any) failed on this text of the row, and the next attempt is not due.

    The server looks once whether any row has failed at all, which spares the lookup of each row.
    """
    tracking = relation.ledger
    return sql.SQL(
        "(EXISTS (SELECT FROM {failures}) AND COALESCE((\n"
        "  SELECT {set_aside} AND vecfill_f.text_hash OPERATOR(pg_catalog.=) {hash}\n"
        "  FROM {failures} AS vecfill_f WHERE {is_row}), false))"
    ).format(
        failures=tracking.failures,
        set_aside=set_aside(relation),
        hash=hash_expression(relation.user_sql.text),
        is_row=tracking.is_row(relation.table.alias, "vecfill_f"),
    )


def set_aside(relation: Relation) -> sql.Composed:
    """Condition on a remembered failure ``vecfill_f``: it is this model's (without one, any), and not due."""
    model = sql.SQL(" AND vecfill_f.model OPERATOR(pg_catalog.=) {}").format(_number(relation.ledger.model))
    return sql.SQL("vecfill_f.next_try OPERATOR(pg_catalog.>) pg_catalog.now(){}").format(
        sql.SQL("") if relation.ledger.model is None else model
    )


def _changed(relation: Relation) -> sql.Composed:
    """State of a row with a vector and a text, by the text alone."""
    return recorded(
        relation,
        sql.SQL("CASE WHEN vecfill_v.text_hash OPERATOR(pg_catalog.<>) {} THEN {} ELSE {} END").format(
            hash_expression(relation.user_sql.text), _unless_failed(relation, CHANGED), sql.Literal(FILLED)
        ),
        sql.Literal(UNKNOWN),
    )


def _other(relation: Relation) -> sql.Composed:
    """State of a row with a vector and a text, by the text and the model."""
    return recorded(
        relation,
        sql.SQL(
            "CASE WHEN vecfill_v.model OPERATOR(pg_catalog.=) {unknown} THEN {changed}\n"
            "    WHEN vecfill_v.model OPERATOR(pg_catalog.<>) {model} THEN {other}\n"
            "    WHEN vecfill_v.text_hash OPERATOR(pg_catalog.<>) {hash} THEN {changed} ELSE {filled} END"
        ).format(
            unknown=_number(UNKNOWN_MODEL),
            model=_number(relation.ledger.model),
            other=_unless_failed(relation, OTHER_MODEL),
            hash=hash_expression(relation.user_sql.text),
            changed=_unless_failed(relation, CHANGED),
            filled=sql.Literal(FILLED),
        ),
        _unless_failed(relation, UNKNOWN),
    )


def _unless_failed(relation: Relation, reason: str) -> sql.Composed:
    return sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(
        failed(relation), sql.Literal(OUTDATED), sql.Literal(reason)
    )


def _queued(relation: Relation) -> sql.Composed:
    """State of a row with a vector and a text, by the queue table."""
    queue = relation.queue_table
    return sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(
        queue.row_has(relation.table.alias, queue.is_open()), sql.Literal(QUEUED), sql.Literal(FILLED)
    )


def _number(value: int | None) -> sql.Composed:
    return sql.SQL("{}::pg_catalog.int4").format(sql.Literal(value))


def _has_no_vector(relation: Relation) -> sql.Composed:
    return sql.SQL("({} IS NULL)").format(embedding(relation))


def _has_no_vector_or_zeros(relation: Relation) -> sql.Composed:
    return sql.SQL("({} OR {})").format(_has_no_vector(relation), is_zero(relation))


MISSING = Selection(name=MISSED, missing=_has_no_vector)
"""Rows without a vector."""

MISSING_OR_ZERO = Selection(name=MISSED, missing=_has_no_vector_or_zeros)
"""Rows without a vector or with a placeholder: zeros, or an empty array."""


def selection_of(target: Target, select: Select | None = None, *, queue: QueueTable | None = None) -> Selection:
    """Returns the rows that a run of this target takes.

    Args:
        target: the target.
        select: ``changed`` and ``all`` need a tracked target; None for an untracked one.
        queue: the queue table, if its open entries also ask for rows that have a vector.
    """
    missing = (MISSING_OR_ZERO if target.zero_is_missing else MISSING).missing
    if queue is not None and queue.embed_filled:
        return Selection(name=QUEUED, missing=missing, reasons=(MISSED, QUEUED), refresh=_queued)
    if select is None:
        return Selection(name=MISSED, missing=missing)
    if select == "missing":
        return Selection(name=MISSED, missing=missing, refresh=_changed)
    if select == "changed":
        return Selection(name=CHANGED, missing=missing, reasons=(MISSED, CHANGED), refresh=_changed)
    return Selection(name="all", missing=missing, reasons=(MISSED, CHANGED, OTHER_MODEL, UNKNOWN), refresh=_other)
