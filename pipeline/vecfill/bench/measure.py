"""Measurements, and the rates and ratios computed from them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

Mark = tuple[float, int]
"""Seconds since the start of a measurement, and the rows that were done at that moment since the mark before."""

Span = tuple[float, float, int]
"""Start and end of one call of a stage in seconds since the start of the measurement, and its rows."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One measurement of one contender.

    Attributes:
        seconds: wall time, from start to the last row.
        marks: a mark a block, in order; one for all where the contender knows no blocks.
        stages: seconds of work by stage.
        spans: the calls of each stage, where they were watched.
        started: seconds until a cluster was up, where the measurement started one; ``seconds`` come after them.
        tokens: before truncation, as the encoder counts them, where an engine ran.
        truncated: rows whose text was cut at the model's length, likewise.
        usage: requests to an API meanwhile; empty for a local model.
    """

    seconds: float
    marks: tuple[Mark, ...]
    stages: dict[str, float]
    spans: dict[str, list[Span]] = field(default_factory=dict)
    started: float | None = None
    tokens: int = 0
    truncated: int = 0
    usage: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows that were done."""
        return sum(rows for _, rows in self.marks)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A contender's rate over another's: median, least and greatest of the rounds' ratios."""

    median: float
    least: float
    greatest: float


def warm_rate(marks: Sequence[Mark]) -> float | None:
    """Rows a second between the first block's end and the last's: start-up, and the first block with it, are left out.

    None with fewer than two blocks, which tell no rate.
    """
    if len(marks) < 2 or marks[-1][0] <= marks[0][0]:  # noqa: PLR2004 -- two points make a slope
        return None
    return sum(rows for _, rows in marks[1:]) / (marks[-1][0] - marks[0][0])


def whole_rate(measured: Measured) -> float | None:
    """Rows a second from the start to the end; None where nothing was done."""
    return measured.rows / measured.seconds if measured.rows and measured.seconds > 0 else None


def start_up(measured: Measured) -> float | None:
    """Seconds to the first block, less the time that its rows take once warm."""
    rate = warm_rate(measured.marks)
    return None if rate is None else max(0.0, measured.marks[0][0] - measured.marks[0][1] / rate)


def ratio(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Ratio | None:
    """Compares round by round; None where no round has both rates."""
    found = [one / other for one, other in zip(ours, theirs, strict=False) if one and other]
    return Ratio(median=statistics.median(found), least=min(found), greatest=max(found)) if found else None


def median(values: Sequence[float | None]) -> float | None:
    """The median of the values that are known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def rotated(items: Sequence[T], turn: int) -> list[T]:
    """The order of a round: each item is first in one round, and last in another."""
    at = turn % len(items) if items else 0
    return [*items[at:], *items[:at]]


def matrix_share(parameters: int, tokens_per_s: float, flops: float) -> float:
    """Share of the device's matrix rate: 2 FLOP a parameter and token, the embedding tables left out.

    Attention's own products are left out too: they are 2% of this at 20 tokens and 384 dimensions.
    """
    return 2.0 * parameters * tokens_per_s / flops


def sorted_padding(tokens: npt.NDArray[np.int32], sizes: npt.NDArray[np.int64], batch: int) -> float:
    """Share of padding where texts are sorted by ``sizes`` and cut into batches of ``batch``, as ``encode`` does.

    Args:
        tokens: int32 [n], tokens of each text.
        sizes: int64 [n], characters of each text: what ``encode`` sorts by.
        batch: texts in a batch.
    """
    ordered = tokens[np.argsort(-sizes, kind="stable")]
    parts = [ordered[start : start + batch] for start in range(0, len(ordered), batch)]
    computed = sum(len(part) * int(part.max()) for part in parts)
    return 1.0 - float(ordered.sum()) / computed if computed else 0.0


def totals(stages: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each stage's seconds."""
    names = dict.fromkeys(name for one in stages for name in one)
    return {name: statistics.median(one.get(name, 0.0) for one in stages) for name in names}
