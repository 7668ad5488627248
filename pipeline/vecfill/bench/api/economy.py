"""What each side would cost and how long it would take at any size: a model, not a measurement. Pure.

Money and time are straight lines over rows: something to begin with, and so much a row. Two lines cross at the
break-even. The report labels each of these figures as modelled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

HOUR_S = 3_600.0
MINUTE_S = 60.0
MILLION = 1e6


@dataclass(frozen=True, kw_only=True)
class Line:
    """USD or seconds over rows: ``start`` at no rows, and ``per_row`` (0 or more) for each."""

    start: float
    per_row: float

    def at(self, rows: float) -> float:
        """The value at so many rows."""
        return self.start + self.per_row * rows


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """The winner at few rows, at many, and the rows at which both are equal.

    Winners are ``local``, ``api``, or ``neither`` where the lines are the same; without a crossing ``at`` is None.
    """

    below: str
    above: str
    at: float | None


def crossing(local: Line, api: Line) -> Crossing:
    """Compares two lines over 0 rows and more. Never divides by zero: parallel lines do not cross."""
    begin, slope = api.start - local.start, api.per_row - local.per_row
    at = -begin / slope if slope else None
    if at is None or at <= 0 or not math.isfinite(at):
        winner = _winner(begin or slope) if at is None or at < 0 or not begin else _winner(slope)
        return Crossing(below=winner, above=winner, at=None)
    return Crossing(below=_winner(begin), above=_winner(slope), at=at)


def _winner(advantage: float) -> str:
    """``advantage`` is by how much the API's value is above the local one."""
    return "local" if advantage > 0 else "api" if advantage < 0 else "neither"


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """The model's inputs, by the names in ``tables.FIELDS``; None where unknown.

    Rates are from this run or a limit, prices from the table, the rest from the user.

    Attributes:
        local_tokens_per_s: longer rows take longer.
        api_rows_per_s: as measured; None where it was another API.
        local_start_s: until the local side's first row, each time that it starts.
        setup_usd: beyond what the API takes.
        growth_rows_per_month: rows that come, or change, each month after the first fill.
        runs_per_month: each start costs its seconds.
    """

    tokens_per_row: float
    local_tokens_per_s: float
    api_rows_per_s: float | None = None
    local_start_s: float = 0.0
    api_start_s: float = 0.0
    usd_per_million_tokens: float = 0.0
    batch_usd_per_million_tokens: float | None = None
    tpm: float | None = None
    rpm: float | None = None
    rows_per_request: float = 1.0
    machine_usd_per_hour: float = 0.0
    setup_usd: float = 0.0
    standing_usd_per_month: float = 0.0
    growth_rows_per_month: float = 0.0
    months: float = 12.0
    runs_per_month: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} is {value}: it must be 0 or more")


def api_rate(given: Assumptions) -> float | None:
    """The most rows/s of the API: as measured, and within its limits; None where no bound is known."""
    bounds = [given.api_rows_per_s]
    bounds.append(given.tpm / MINUTE_S / given.tokens_per_row if given.tpm and given.tokens_per_row else None)
    bounds.append(given.rpm / MINUTE_S * given.rows_per_request if given.rpm and given.rows_per_request else None)
    return min((bound for bound in bounds if bound), default=None)


def local_time(given: Assumptions) -> Line | None:
    """Seconds over the rows of the first fill; None where the local rate is zero."""
    if not given.local_tokens_per_s:
        return None
    return Line(start=given.local_start_s, per_row=given.tokens_per_row / given.local_tokens_per_s)


def api_time(given: Assumptions) -> Line | None:
    """The least seconds through the API; None where nothing known bounds its rate."""
    rate = api_rate(given)
    return Line(start=given.api_start_s, per_row=1.0 / rate) if rate else None


def machine_usd_per_row(given: Assumptions) -> float | None:
    """USD of the local machine for a row; None where its rate is zero."""
    time = local_time(given)
    return given.machine_usd_per_hour / HOUR_S * time.per_row if time else None


def local_cost(given: Assumptions) -> Line | None:
    """USD over the rows of the first fill, with all months' growth in it; None where the local rate is zero."""
    per_row = machine_usd_per_row(given)
    if per_row is None:
        return None
    starts = 1 + (given.runs_per_month * given.months if given.growth_rows_per_month else 0)
    waiting = starts * given.local_start_s * given.machine_usd_per_hour / HOUR_S
    standing = given.setup_usd + given.standing_usd_per_month * given.months + waiting
    return Line(start=standing + per_row * given.growth_rows_per_month * given.months, per_row=per_row)


def api_cost(given: Assumptions, *, batch: bool = False) -> Line | None:
    """The same through the API, or its batch API; None where that has no price."""
    price = given.batch_usd_per_million_tokens if batch else given.usd_per_million_tokens
    if price is None:
        return None
    per_row = price * given.tokens_per_row / MILLION
    return Line(start=per_row * given.growth_rows_per_month * given.months, per_row=per_row)


def cheaper(given: Assumptions, *, batch: bool = False) -> Crossing | None:
    """From which corpus size on which side is cheaper over all months; None where a side's cost is not known."""
    local, api = local_cost(given), api_cost(given, batch=batch)
    return crossing(local, api) if local and api else None


def faster(given: Assumptions) -> Crossing | None:
    """From which corpus size on which side ends the first fill sooner; None where a side's rate is not known."""
    local, api = local_time(given), api_time(given)
    return crossing(local, api) if local and api else None
