"""What is to be compared, and what it would cost: the dry run, which sends nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from vecfill.bench.api.budget import Needs
from vecfill.bench.api.retrieval import RetrievalSet
from vecfill.bench.api.rows import Rows
from vecfill.config.model import Model
from vecfill.encode.api.api_encoder import PROBE
from vecfill.encode.api.prices import Machine, Price, PriceTable
from vecfill.encode.api.token_counts import Counts, Exact
from vecfill.encode.model_location import locate_model
from vecfill.errors import ConfigError

AT_MOST = 10
"""Neighbours, or ranks, that quality is judged by."""

WARM = 32
"""Texts that each side encodes before anything is timed."""

QUERIES = 30
"""Texts of the rows that are asked for one by one, where there is no retrieval set."""


@dataclass(frozen=True, kw_only=True)
class Money:
    """What the modelled part goes by.

    Attributes:
        prices: the price table.
        price: the API's entry; None where the table has none.
        borrowed: it is another API's, since the measured server has none of its own.
        machine: what the local side runs on.
        setup_usd: once, to set the local side up.
        standing_usd: a month, though nothing is embedded.
        growth: rows a month.
        months: that are looked at.
        runs: fills a month.

    Raises:
        ConfigError: an amount is below 0, or no number.
    """

    prices: PriceTable
    price: Price | None
    borrowed: bool
    machine: Machine
    setup_usd: float = 100.0
    standing_usd: float = 0.0
    growth: float = 0.0
    months: float = 12.0
    runs: float = 30.0

    def __post_init__(self) -> None:
        for name in ("setup_usd", "standing_usd", "growth", "months", "runs"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} is {value}: it must be a number, 0 or more")

    @property
    def machine_usd_per_hour(self) -> float:
        """Rent and power together."""
        power = self.prices.power.usd_per_kwh if self.prices.power else 0.0
        return self.machine.usd_per_hour + self.machine.watts / 1_000.0 * power


def own_price(api: Model, listed: Price | None) -> Price | None:
    """The table's entry, with the price that the user gives by --price-per-million in place of its own.

    What the table says of batches goes by its own price, and is left out then.
    """
    asked = api.api
    if asked.price_per_million is None:
        return listed
    given = {"usd_per_million_tokens": asked.price_per_million, "batch_usd_per_million_tokens": None}
    if listed:
        return listed.model_copy(
            update={**given, "source": f"--price-per-million for the price, {listed.source} for the limits"}
        )
    return Price(
        provider=asked.host,
        host=asked.host,
        model=api.api_name,
        dimension=None,
        usd_per_million_tokens=asked.price_per_million,
        source="--price-per-million",
        dated=datetime.now(UTC).date(),
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be measured.

    Attributes:
        rows: what both sides embed.
        local: the local model.
        api: the API's model, ``openai:NAME``.
        rounds: how often.
        money: for the modelled part.
        retrieval: the built-in retrieval set, or None.
    """

    rows: Rows
    local: Model
    api: Model
    rounds: int
    money: Money
    retrieval: RetrievalSet | None = None
    queries: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        drawn = self.rows.texts[:: max(1, len(self.rows.texts) // QUERIES)][:QUERIES]
        object.__setattr__(self, "queries", self.retrieval.queries if self.retrieval else drawn)

    @property
    def documents(self) -> tuple[str, ...]:
        """Of the retrieval set."""
        return self.retrieval.documents if self.retrieval else ()


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of the rows.

    Attributes:
        total: of all rows.
        distinct: of the distinct texts.
        exact: counted by the API's own tokenizer; else an estimate, by the local model's.
        tokenizer: whose.
    """

    total: int
    distinct: int
    exact: bool
    tokenizer: str


def counted(rows: Rows, local: Model, api: Model) -> Tokens:
    """Counts the rows' tokens on this machine.

    Raises:
        ConfigError: the model named has no ``tokenizer.json``.
    """
    name = api.api.tokenizer or local.name
    tokens = _tokens(name, rows.texts)
    return Tokens(
        total=int(tokens.sum(dtype=np.int64)),
        distinct=int(tokens[rows.distinct()].sum(dtype=np.int64)),
        exact=api.api.tokenizer is not None,
        tokenizer=name,
    )


def _tokens(name: str, texts: tuple[str, ...]) -> Counts:
    model = Model(name=name)
    if name.startswith("hash:"):
        raise ConfigError(f"model {name} has no tokenizer to count tokens with: name the API's by --tokenizer")
    return Exact(locate_model(model), None).prepare(list(texts)).tokens


def needed(plan: Plan, tokens: Tokens) -> Needs:
    """What the whole comparison takes of the API: the rounds, what warms it up, single queries, the retrieval set."""
    warm, most = plan.rows.texts[:WARM], plan.api.api.request_inputs
    alone = (PROBE, warm[0], *plan.queries)
    many = plan.rounds * math.ceil(len(plan.rows.texts) / most) + sum(
        math.ceil(len(texts) / most) for texts in (warm, plan.documents)
    )
    extra = _tokens(tokens.tokenizer, (*alone, *warm, *plan.documents))
    return Needs(
        requests=len(alone) + many,
        tokens=plan.rounds * tokens.total + int(extra.sum(dtype=np.int64)),
        exact=tokens.exact,
    )


def priced(plan: Plan) -> dict[str, Any]:
    """The dry run: what the rows, and the comparison itself, would cost. Sends nothing to the API."""
    tokens = counted(plan.rows, plan.local, plan.api)
    needs = needed(plan, tokens)
    money = plan.money
    return {
        "dry_run": True,
        "rows": len(plan.rows.texts),
        "distinct": len(plan.rows.distinct()),
        "corpus": plan.rows.name,
        "tokens": tokens.total,
        "tokens_distinct": tokens.distinct,
        "tokens_exact": tokens.exact,
        "tokenizer": tokens.tokenizer,
        "comparison_tokens": needs.tokens,
        "comparison_requests": needs.requests,
        "price_of": money.price.label if money.price else None,
        "usd_per_million_tokens": money.price.usd_per_million_tokens if money.price else None,
        "dated": money.price.dated.isoformat() if money.price else None,
        "source": money.price.source if money.price else None,
        "usd": money.price.cost(tokens.total) if money.price else None,
        "usd_distinct": money.price.cost(tokens.distinct) if money.price else None,
        "usd_batch": money.price.batch_cost(tokens.total) if money.price else None,
        "usd_comparison": money.price.cost(needs.tokens) if money.price else None,
        "remarks": remarks(plan, exact=tokens.exact),
    }


def remarks(plan: Plan, *, exact: bool) -> list[str]:
    """What must be said beside any figure in money."""
    money, found = plan.money, []
    if money.price is None:
        found.append(
            f"the price table has no entry for {plan.api.api_name} at {plan.api.api.host}: no cost is told; name "
            "another by --price-as, or give a file by --prices"
        )
    else:
        found += money.price.remarks()
    if money.borrowed and money.price:
        found.append(f"the measured server has no price: costs and limits are those of {money.price.label}")
    if not exact:
        found.append(
            "tokens are an estimate: the local model's tokenizer counted them, not the API's (--tokenizer names one)"
        )
    if money.machine.stale():
        found.append(f"the price of machine {money.machine.name} is {money.machine.age_days()} days old: check it")
    return found
