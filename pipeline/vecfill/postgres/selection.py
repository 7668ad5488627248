"""The selection: which rows a run takes, as conditions on a row of the target. Pure.

Every statement that must recognise an eligible row uses the selection, so a new selection (rows whose text changed, all
rows) is a new value, not a new statement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psycopg import sql

from vecfill.config.target import Target
from vecfill.postgres.relation import Relation
from vecfill.postgres.target_sql import embedding, is_zero, where

FILLED, EMPTY, EXCLUDED = "filled", "empty", "excluded"
"""States of a row that is not eligible; the state of an eligible row is the selection's name."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Rows to take.

    Attributes:
        name: the state of an eligible row, in a survey and in a block.
        open: condition: the row's vector must be written, whatever its text; never NULL, and false once it is written.
            It must be cheap to evaluate.
    """

    name: str
    open: Callable[[Relation], sql.Composable]

    def eligible(self, relation: Relation) -> sql.Composed:
        """Condition to read a row and, once it is locked, to write it: open, not blank, and the user's ``where``.

        After locking, PostgreSQL evaluates it on the newest version of the row.
        """
        return sql.SQL("({open} AND NOT {blank} AND {where})").format(
            open=self.open(relation), blank=relation.user_sql.blank, where=where(relation)
        )

    def state(self, relation: Relation, excluded: sql.Composable | None) -> sql.Composed:
        """Expression for the state of a row: ``filled``, ``empty``, ``excluded`` or the selection's name.

        Args:
            relation: the target.
            excluded: condition: the row is excluded; None excludes no row.
        """
        exclude = sql.SQL(" WHEN {} THEN {}").format(excluded, sql.Literal(EXCLUDED)) if excluded else sql.SQL("")
        return sql.SQL("CASE WHEN NOT {open} THEN {filled} WHEN {blank} THEN {empty}{exclude} ELSE {name} END").format(
            open=self.open(relation),
            filled=sql.Literal(FILLED),
            blank=relation.user_sql.blank,
            empty=sql.Literal(EMPTY),
            exclude=exclude,
            name=sql.Literal(self.name),
        )


def _has_no_vector(relation: Relation) -> sql.Composed:
    return sql.SQL("({} IS NULL)").format(embedding(relation))


def _has_no_vector_or_zeros(relation: Relation) -> sql.Composed:
    return sql.SQL("({} OR {})").format(_has_no_vector(relation), is_zero(relation))


MISSING = Selection(name="missing", open=_has_no_vector)
"""Rows without a vector."""

MISSING_OR_ZERO = Selection(name="missing", open=_has_no_vector_or_zeros)
"""Rows without a vector or with a placeholder: zeros, or an empty array."""


def selection_of(target: Target) -> Selection:
    """Returns the rows that a run of this target takes."""
    return MISSING_OR_ZERO if target.zero_is_missing else MISSING
