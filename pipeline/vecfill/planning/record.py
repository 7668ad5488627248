"""The plan of a run as records: what ``plan`` returns, and the keys of ``vecfill plan --json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vecfill.backfill.forecast import Forecast
from vecfill.read.survey import Coverage


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a run would not start: its message, and the exit code that it would end with."""

    message: str
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class TextEstimate:
    """The texts to embed, by a sample of the rows.

    Attributes:
        sampled: rows of the sample.
        distinct: distinct texts of all rows to embed; a run computes each once, unless deduplication is off.
        exact: the sample is all rows, so that nothing is estimated.
    """

    sampled: int
    distinct: int
    exact: bool


@dataclass(frozen=True, kw_only=True)
class TokenEstimate:
    """The tokens of the texts to embed, by the same sample; prompt and special tokens included.

    Attributes:
        tokenizer: what counted: the model's own tokenizer, or an estimate by bytes.
        limit: tokens of a text that the model reads; None if its files declare no limit.
        mean, median, p95, most: tokens of a row, before truncation.
        histogram: most tokens of a bin → rows of the sample; the bins are powers of two.
        truncated: rows, of all to embed, whose text is longer than ``limit`` and whose end is left out.
        windowed: such rows that are embedded whole, by windows (``--long mean``).
        windows: their windows.
        total: tokens of all texts that a run computes.
    """

    tokenizer: str
    limit: int | None
    mean: float
    median: int
    p95: int
    most: int
    histogram: dict[int, int]
    truncated: int
    windowed: int
    windows: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The rate that the time is calculated with.

    Attributes:
        rows_per_s: rows per second, equal texts computed once where a run does so; within ``--max-rate``.
        source: ``measured`` (the sample was embedded here), ``run`` (the ledger's record of a run), ``assumed``.
        detail: what that is, in words.
    """

    rows_per_s: float
    source: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run would work with.

    Attributes:
        engine, reason: the engine that it would choose, and why.
        device: where it would compute: ``cuda``, ``cpu``, or ``remote`` for an API.
        gpus, cores: of this machine.
        workers: workers by stage; None on a cluster that the run would have to join first.
        connections: most database connections at a time; None likewise.
    """

    engine: str
    reason: str
    device: str
    gpus: int
    cores: int
    workers: dict[str, int] | None
    connections: int | None


@dataclass(frozen=True, kw_only=True)
class ApiCost:
    """What the tokens would cost at an API, in USD; None where the price table has no price.

    Attributes:
        api: provider and model.
        usd, batch_usd: through the API, and through its batch API.
        dated: date of the price.
        chosen: it is the API of ``--model``.
    """

    api: str
    usd: float | None
    batch_usd: float | None
    dated: str
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run with the same settings would do if it started now.

    Attributes:
        rows: rows to embed, within ``--limit``.
        reasons: rows to take by reason, without the limit: missing, changed, other_model, unknown.
        cleared: vectors to clear, since the text of their rows became empty.
        left: rows that the run leaves alone by reason: ``empty`` texts, ``failed`` before and not due, vectors of
            ``unknown`` origin when the table was last read as a whole, ``changed`` texts under ``--select missing``.
        before: the coverage now.
        tracked: the target is tracked.
        row_security: row-level policies apply to the role, so that only rows that it may see are counted.
        texts, tokens, rate, forecast, resources: estimates; None where there is nothing to embed, or no way to tell.
        seconds: time to embed and write the rows, without start-up.
        apis: what the tokens would cost at each API of the price table, the cheapest first.
        refusals: why a run would not start.
        notes: what the plan does not know, and other remarks.
        exit_code: 0 if a run would start, else that of the first refusal.
    """

    table: str
    model: str
    rows: int
    reasons: dict[str, int]
    cleared: int
    left: dict[str, int]
    before: Coverage
    tracked: bool
    row_security: bool
    texts: TextEstimate | None = None
    tokens: TokenEstimate | None = None
    rate: Rate | None = None
    seconds: float | None = None
    forecast: Forecast | None = None
    resources: Resources | None = None
    apis: tuple[ApiCost, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = asdict(self)
        found["before"]["percent"] = round(self.before.percent, 2)
        return found
