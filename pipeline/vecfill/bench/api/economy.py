"""What each side would cost and how long it would take at any size: a model, not a measurement. Pure.

Both money and time are straight lines: something to begin with, and so much a row. Where two lines cross is the
break-even; every figure that comes out of here is labelled as modelled wherever it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

HOUR_S = 3_600.0
MINUTE_S = 60.0
MILLION = 1e6

SWING = 2.0
"""The sensitivity tries each assumption at a half and at the double of its value."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A straight line over rows: USD, or seconds.

    Attributes:
        start: at no rows.
        per_row: for each row, 0 or more.
    """

    start: float
    per_row: float

    def at(self, rows: float) -> float:
        """The value at so many rows."""
        return self.start + self.per_row * rows


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where the local side begins to win.

    Attributes:
        below: who wins at few rows: ``local``, ``api`` or ``neither`` where the lines are the same.
        above: who wins at many rows.
        at: rows at which both are equal; None where one side wins at any size, or neither does.
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
    """All that the model takes in. Rates are of this run or of a limit, prices of a table, the rest of the user.

    Attributes:
        tokens_per_row: tokens of a row, as counted or estimated.
        local_tokens_per_s: of the local side, as measured here: longer rows take it longer, too.
        api_rows_per_s: of the API as it was measured; None where it was not, or where another API was.
        local_start_s: until the local side's first row, each time that it starts.
        api_start_s: the same of the API's side.
        usd_per_million_tokens: the API's price.
        batch_usd_per_million_tokens: of its batch API; None where there is none.
        tpm: tokens a minute that the account may send; None where it is not known.
        rpm: requests a minute likewise.
        rows_per_request: rows that a request carries.
        machine_usd_per_hour: what the local machine costs while it works, rent and power together.
        setup_usd: once, to set the local side up, beyond what the API's would take.
        standing_usd_per_month: what the local side costs a month although nothing is embedded.
        growth_rows_per_month: rows that come, or change, each month after the first fill.
        months: months that are looked at.
        runs_per_month: how often the month's rows are filled in: each start costs its seconds.
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
    """The most rows a second that the API gives: as measured, and no more than its limits let through.

    None where nothing bounds it that is known.
    """
    bounds = [given.api_rows_per_s]
    bounds.append(given.tpm / MINUTE_S / given.tokens_per_row if given.tpm and given.tokens_per_row else None)
    bounds.append(given.rpm / MINUTE_S * given.rows_per_request if given.rpm and given.rows_per_request else None)
    known = [bound for bound in bounds if bound]
    return min(known) if known else None


def seconds_per_row(given: Assumptions) -> float | None:
    """What the local side takes for a row once it is warm; None where its rate is zero."""
    return given.tokens_per_row / given.local_tokens_per_s if given.local_tokens_per_s else None


def machine_usd_per_row(given: Assumptions) -> float | None:
    """What the local machine costs for a row; None where its rate is zero."""
    row = seconds_per_row(given)
    return None if row is None else given.machine_usd_per_hour / HOUR_S * row


def api_usd_per_row(given: Assumptions, *, batch: bool = False) -> float | None:
    """What the API costs for a row; None for a batch API that there is not."""
    price = given.batch_usd_per_million_tokens if batch else given.usd_per_million_tokens
    return None if price is None else price * given.tokens_per_row / MILLION


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
    """The same through the API: every row is paid, those of the growth too."""
    per_row = api_usd_per_row(given, batch=batch)
    if per_row is None:
        return None
    return Line(start=per_row * given.growth_rows_per_month * given.months, per_row=per_row)


def cheaper(given: Assumptions, *, batch: bool = False) -> Crossing | None:
    """From which corpus size on which side is cheaper over all months; None where a side's cost is not known."""
    local, api = local_cost(given), api_cost(given, batch=batch)
    return crossing(local, api) if local and api else None


def cheaper_by_growth(given: Assumptions, rows: float) -> Crossing | None:
    """From which growth, in rows a month, on which side is cheaper, at a corpus of ``rows``.

    Each month's rows are filled ``runs_per_month`` times, also where there are few.
    """
    some = replace(given, growth_rows_per_month=1.0)
    none = replace(given, growth_rows_per_month=0.0)
    mine, theirs = local_cost(some), api_cost(some)
    local, api = machine_usd_per_row(none), api_usd_per_row(none)
    if not (mine and theirs) or local is None or api is None:
        return None
    ours = Line(start=mine.at(rows) - local * given.months, per_row=local * given.months)
    other = Line(start=theirs.at(rows) - api * given.months, per_row=api * given.months)
    return crossing(ours, other)


def local_time(given: Assumptions) -> Line | None:
    """Seconds over the rows of the first fill; None where the local rate is zero."""
    row = seconds_per_row(given)
    return None if row is None else Line(start=given.local_start_s, per_row=row)


def api_time(given: Assumptions) -> Line | None:
    """The least seconds through the API; None where nothing that is known bounds its rate."""
    rate = api_rate(given)
    return Line(start=given.api_start_s, per_row=1.0 / rate) if rate else None


def faster(given: Assumptions) -> Crossing | None:
    """From which corpus size on which side ends the first fill sooner; None where a side's rate is not known."""
    local, api = local_time(given), api_time(given)
    return crossing(local, api) if local and api else None


def faster_by_growth(given: Assumptions) -> Crossing | None:
    """From which growth, in rows a month, on which side spends less time a month, in all its runs."""
    local, api = local_time(given), api_time(given)
    if not local or not api:
        return None
    runs = given.runs_per_month
    return crossing(replace(local, start=runs * local.start), replace(api, start=runs * api.start))


@dataclass(frozen=True, kw_only=True)
class Swing:
    """How far the break-even corpus moves with one assumption.

    Attributes:
        name: the assumption's field.
        value: as assumed; ``low`` and ``high`` are what was tried instead.
        at_low: break-even with ``low``: rows, 0 where local always wins, infinity where it never does.
        at_high: the same with ``high``.
    """

    name: str
    value: float
    low: float
    high: float
    at_low: float
    at_high: float

    @property
    def decades(self) -> float:
        """Powers of ten between the two, each within one row and 10^15."""
        return abs(math.log10(_bounded(self.at_high)) - math.log10(_bounded(self.at_low)))


def _bounded(rows: float) -> float:
    return min(max(rows, 1.0), 1e15)


def cheaper_from(given: Assumptions) -> float:
    """Rows from which on the local side is cheaper: 0 where it always is, infinity where it never is."""
    found = cheaper(given)
    if found is None or found.above != "local":
        return math.inf
    return found.at or 0.0


UNCERTAIN = (
    "tokens_per_row",
    "local_tokens_per_s",
    "usd_per_million_tokens",
    "machine_usd_per_hour",
    "setup_usd",
    "standing_usd_per_month",
    "growth_rows_per_month",
    "months",
)
"""Assumptions that the cost's break-even depends on."""


def sensitivity(given: Assumptions, names: Sequence[str] = UNCERTAIN) -> list[Swing]:
    """The break-even with each assumption at a half and at the double; the farthest moved first, the unmoved left out.

    A growth of zero has neither half nor double, and is left out as all zeros are.
    """
    found = []
    for name in names:
        value = getattr(given, name)
        low, high = value / SWING, value * SWING
        at_low, at_high = (cheaper_from(replace(given, **{name: one})) for one in (low, high))
        found.append(Swing(name=name, value=value, low=low, high=high, at_low=at_low, at_high=at_high))
    return sorted((one for one in found if one.at_low != one.at_high), key=lambda one: -one.decades)
