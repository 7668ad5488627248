"""Compares a sample of stored vectors with vectors recomputed from the same texts: did one model make both?"""

from __future__ import annotations

import enum
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vecfill.encode.encoding import Encoding
from vecfill.errors import MixedModelsError
from vecfill.wording import count_of

log = logging.getLogger(__name__)

SAME_MODEL_COSINE = 0.98
"""Cosine from which a stored vector counts as this model's: rounding to bfloat16 or halfvec leaves a cosine above
0.999, another model's vectors of the same dimension stay below 0.5."""

OTHER_MODEL_BELOW = 0.5
"""Share of agreeing vectors below which another model made them: edited texts cannot be that many."""

DOUBTFUL_BELOW = 0.9

MIN_SAMPLE = 4
"""Vectors needed to accuse another model: fewer may all belong to texts edited since, and only cause a warning."""


class Verdict(enum.Enum):
    """Whether the model that recomputed the sample made the stored vectors."""

    SAME = "same"
    DOUBTFUL = "doubtful"
    OTHER_MODEL = "other model"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far a sample agrees.

    Attributes:
        agreeing: vectors with a cosine of ``SAME_MODEL_COSINE`` or more.
        n: vectors compared.
        median_cosine: NaN if none was compared.
    """

    agreeing: int
    n: int
    median_cosine: float

    @property
    def verdict(self) -> Verdict:
        """The conclusion: ``SAME`` if nothing was compared."""
        share = self.agreeing / self.n if self.n else 1.0
        if share < OTHER_MODEL_BELOW and self.n >= MIN_SAMPLE:
            return Verdict.OTHER_MODEL
        return Verdict.DOUBTFUL if share < DOUBTFUL_BELOW else Verdict.SAME


def check_sample(
    sample: Sequence[tuple[str, Sequence[float]]], recomputed: Encoding, *, column: str, model: str, allow_mixed: bool
) -> None:
    """Checks that this model made the stored vectors. Placeholders (zeros, empty arrays) are left out, with a warning.

    Args:
        sample: texts and their stored vectors.
        recomputed: their vectors by the model in use, in the same order.
        column: the embedding column, for messages.
        model: the model's name, for messages.
        allow_mixed: only warn if another model made them.

    Raises:
        MixedModelsError: another model made them, or they are one placeholder.
    """
    stored = [row for row, (_, vector) in enumerate(sample) if any(vector)]
    if zeros := len(sample) - len(stored):
        log.warning(
            "%d of %d sampled vectors of %s are placeholders (zeros or empty) and count as filled: "
            "pass --zero-is-missing to fill them",
            *(zeros, len(sample), column),
        )
    rows = [row for row in stored if recomputed.vectors[row].any()]
    found = agreement([sample[row][1] for row in rows], recomputed.vectors[rows])
    if found.verdict is Verdict.SAME:
        return
    figures = (
        f"{found.agreeing} of {count_of(found.n, 'sampled vector')} of {column} agree with model {model} (cosine of "
        f"{SAME_MODEL_COSINE} or more; median cosine {found.median_cosine:.2f})"
    )
    if found.verdict is Verdict.DOUBTFUL or allow_mixed:
        log.warning("%s: the other texts may have changed since, or models are mixed", figures)
        return
    if len({tuple(sample[row][1]) for row in rows}) == 1 < len({sample[row][0] for row in rows}):
        raise MixedModelsError(
            f"all {found.n} sampled vectors of {column} are equal: a placeholder, which no model made; set them to "
            "NULL, exclude them with --where, or pass --allow-mixed to continue anyway"
        )
    raise MixedModelsError(
        f"{figures}: another model or prompt made them; choose that one, exclude them with --where, pass --allow-mixed "
        "to continue anyway, or empty the column first"
    )


def agreement(stored: Sequence[Sequence[float]], recomputed: npt.NDArray[np.float32]) -> Agreement:
    """Compares vectors pair by pair.

    Args:
        stored: n vectors of the column, of any length.
        recomputed: float32 [n, dim], by the model in use, of the same texts in the same order.
    """
    pairs = zip(stored, recomputed, strict=True)
    cosines = np.array([cosine(np.asarray(one, np.float64), other.astype(np.float64)) for one, other in pairs])
    return Agreement(
        agreeing=int((cosines >= SAME_MODEL_COSINE).sum()),
        n=len(cosines),
        median_cosine=float(np.median(cosines)) if len(cosines) else float("nan"),
    )


def cosine(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Returns the cosine of two vectors; 0 if they cannot be compared (another length, zero, not finite)."""
    if one.shape != other.shape:
        return 0.0
    norms = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / norms if np.isfinite(norms) and norms > 0 else 0.0
