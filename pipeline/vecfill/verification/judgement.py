"""What a stored vector turns out to be, once its text was embedded again. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vecfill.encode.encoding import Encoding
from vecfill.encode.sample import SAME_MODEL_COSINE, cosine
from vecfill.postgres.tracking import UNKNOWN_MODEL

RIGHT, AGREES, UNKNOWN, NOT_COMPARED = "right", "agrees", "unknown", "not_compared"
"""Nothing is known to be wrong: the ledger vouches for the vector, and it agrees; the target is not tracked, and it
agrees; the ledger has no entry of it, and it agrees; the model gives its text no vector now."""

OLD_TEXT, OTHER_MODEL, OVERWRITTEN, DIFFERS, ZERO, ODD_NORM = OFF = (
    *("old_text", "other_model", "overwritten", "differs", "zero", "odd_norm"),
)
"""The vector is off: its text changed since; another model made it; the ledger vouches for it, but it is another one;
nothing is known of it, and it does not agree; it is zeros or an empty array; it agrees, but for its length."""

STATES = (RIGHT, AGREES, UNKNOWN, NOT_COMPARED, *OFF)

NORM_TOLERANCE = 0.05
"""Difference of the lengths of two vectors, as a share: rounding to bfloat16 or halfvec changes less than 0.01."""

MAX_LISTED = 10_000
"""Most rows that a result lists; the others are only counted."""


@dataclass(frozen=True, kw_only=True)
class StoredRow:
    """A row as it was read.

    Attributes:
        key: as text.
        parts: each key column as text.
        text: to embed.
        vector: the stored one.
        model: number of its model in the ledger; None without an entry.
        same_text: the ledger's entry is of this text.
    """

    key: str
    parts: tuple[str, ...]
    text: str
    vector: npt.NDArray[np.float64]
    model: int | None
    same_text: bool | None


@dataclass(frozen=True, kw_only=True)
class VerifiedRow:
    """A row that was compared.

    Attributes:
        key: as text.
        state: one of ``STATES``.
        cosine: of the stored vector and the one made again; None if there is none.
        norm: length of the stored vector.
        error: why the text has no vector now.
    """

    key: str
    state: str
    cosine: float | None
    norm: float
    error: str | None = None


def judged(row: StoredRow, recomputed: npt.NDArray[np.float32], *, own: int, tracked: bool) -> VerifiedRow:
    """Compares a stored vector with the one made again from its text.

    Args:
        row: the stored one.
        recomputed: float32 [dim], not zero.
        own: number of the model in the ledger.
        tracked: the target is tracked.
    """
    norm = float(np.linalg.norm(row.vector))
    found = cosine(row.vector, recomputed.astype(np.float64))
    state = _state(row, own=own, tracked=tracked, agrees=found >= SAME_MODEL_COSINE, zero=not row.vector.any())
    if state in (RIGHT, AGREES, UNKNOWN) and _is_odd(norm, float(np.linalg.norm(recomputed))):
        state = ODD_NORM
    return VerifiedRow(key=row.key, state=state, cosine=round(found, 4), norm=norm)


def _state(row: StoredRow, *, own: int, tracked: bool, agrees: bool, zero: bool) -> str:
    if zero:
        return ZERO
    if row.model is None:
        return (UNKNOWN if tracked else AGREES) if agrees else DIFFERS
    if row.model == UNKNOWN_MODEL or not row.same_text:
        return OLD_TEXT
    if row.model != own:
        return OTHER_MODEL
    return RIGHT if agrees else OVERWRITTEN


def _is_odd(norm: float, expected: float) -> bool:
    return abs(norm - expected) > NORM_TOLERANCE * expected


@dataclass
class Judgements:
    """All rows that were compared: counts by state, and those to list."""

    own: int
    tracked: bool
    counts: Counter[str] = field(default_factory=Counter)
    listed: list[VerifiedRow] = field(default_factory=list)

    def add(self, rows: Sequence[StoredRow], recomputed: Encoding) -> list[StoredRow]:
        """Compares rows with their vectors made again, and returns those that are off."""
        off = []
        for position, row in enumerate(rows):
            found = self._judged(row, recomputed, position)
            self.counts[found.state] += 1
            if found.state in OFF:
                off.append(row)
            if (found.state in OFF or found.state == NOT_COMPARED) and len(self.listed) < MAX_LISTED:
                self.listed.append(found)
        return off

    def _judged(self, row: StoredRow, recomputed: Encoding, position: int) -> VerifiedRow:
        vector = recomputed.vectors[position]
        if vector.any():
            return judged(row, vector, own=self.own, tracked=self.tracked)
        error = recomputed.errors.get(position)
        why = "the budget of the API is spent" if recomputed.unasked[position] else "the model gives zeros"
        norm = float(np.linalg.norm(row.vector))
        message = error.message if error else why
        return VerifiedRow(key=row.key, state=NOT_COMPARED, cosine=None, norm=norm, error=message)

    @property
    def off(self) -> int:
        """Rows whose vector is off."""
        return sum(self.counts[state] for state in OFF)
