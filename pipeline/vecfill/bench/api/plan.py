"""The plan of a comparison, and its cost: the dry run, which sends nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vecfill.bench.api.budget import Needs
from vecfill.bench.api.judged import RetrievalSet
from vecfill.bench.corpus import Corpus
from vecfill.config.model import Model
from vecfill.encode.api.prices import Machine, Price, PriceTable
from vecfill.encode.api.requester import PROBE
from vecfill.encode.api.token_counts import Counts, count_tokens, read_tokenizer
from vecfill.encode.model.model_location import locate_model
from vecfill.errors import ConfigError

WARM = 32
"""Texts that each side encodes before anything is timed."""

QUERIES = 30
"""Texts of the rows that serve as single queries, where there is no retrieval set."""


@dataclass(frozen=True, kw_only=True)
class Money:
    """Prices and the user's assumptions, for the modelled part.

    Attributes:
        prices: the price table.
        price: the API's entry; None where the table has none.
        borrowed: it is another API's, since the measured server has none of its own.
        machine: of the local side. The amounts after it are those of ``Assumptions``.

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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure: rows through the local model and the API's, ``openai:NAME``; retrieval is left out if None."""

    corpus: Corpus
    local: Model
    api: Model
    rounds: int
    money: Money
    retrieval: RetrievalSet | None = None

    @property
    def queries(self) -> tuple[str, ...]:
        """Those of the retrieval set, else texts of the rows."""
        texts = self.corpus.texts
        return self.retrieval.queries if self.retrieval else texts[:: max(1, len(texts) // QUERIES)][:QUERIES]

    @property
    def documents(self) -> tuple[str, ...]:
        """Of the retrieval set."""
        return self.retrieval.documents if self.retrieval else ()


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of all rows and of the distinct texts; not ``exact`` where another tokenizer than the API's counted."""

    total: int
    distinct: int
    exact: bool
    tokenizer: str


def counted(corpus: Corpus, local: Model, api: Model) -> Tokens:
    """Counts the rows' tokens on this machine.

    Raises:
        ConfigError: the model named has no ``tokenizer.json``.
    """
    name = api.api.tokenizer or local.name
    tokens = _tokens(name, corpus.texts)
    return Tokens(
        total=int(tokens.sum(dtype=np.int64)),
        distinct=int(tokens[corpus.distinct()].sum(dtype=np.int64)),
        exact=api.api.tokenizer is not None,
        tokenizer=name,
    )


def _tokens(name: str, texts: tuple[str, ...]) -> Counts:
    if name.startswith("hash:"):
        raise ConfigError(f"model {name} has no tokenizer to count tokens with: name the API's by --tokenizer")
    return count_tokens(read_tokenizer(locate_model(Model(name=name))), list(texts))


def needed(plan: Plan, tokens: Tokens) -> Needs:
    """What the whole comparison needs of the API: the rounds, the warm-up, single queries, the retrieval set."""
    warm, most = plan.corpus.texts[:WARM], plan.api.api.request_inputs
    alone = (PROBE, warm[0], *plan.queries)
    many = plan.rounds * math.ceil(len(plan.corpus.texts) / most) + sum(
        math.ceil(len(texts) / most) for texts in (warm, plan.documents)
    )
    extra = _tokens(tokens.tokenizer, (*alone, *warm, *plan.documents))
    return Needs(
        requests=len(alone) + many,
        tokens=plan.rounds * tokens.total + int(extra.sum(dtype=np.int64)),
        exact=tokens.exact,
    )


def priced(plan: Plan) -> dict[str, Any]:
    """The dry run: the cost of the rows and of the comparison itself. Sends nothing to the API."""
    tokens = counted(plan.corpus, plan.local, plan.api)
    needs, price = needed(plan, tokens), plan.money.price
    return {
        "dry_run": True,
        "rows": len(plan.corpus.texts),
        "distinct": len(plan.corpus.distinct()),
        "corpus": plan.corpus.name,
        "tokens": tokens.total,
        "tokens_distinct": tokens.distinct,
        "tokens_exact": tokens.exact,
        "tokenizer": tokens.tokenizer,
        "comparison_tokens": needs.tokens,
        "comparison_requests": needs.requests,
        "price_of": price.label if price else None,
        "usd_per_million_tokens": price.usd_per_million_tokens if price else None,
        "dated": price.dated.isoformat() if price else None,
        "source": price.source if price else None,
        "usd": price.cost(tokens.total) if price else None,
        "usd_distinct": price.cost(tokens.distinct) if price else None,
        "usd_batch": price.batch_cost(tokens.total) if price else None,
        "usd_comparison": price.cost(needs.tokens) if price else None,
        "remarks": remarks(plan, exact=tokens.exact),
    }


def remarks(plan: Plan, *, exact: bool) -> list[str]:
    """Warnings that belong beside any figure in money."""
    money, found = plan.money, []
    if money.price is None:
        found.append(
            f"the price table has no entry for {plan.api.api_name} at {plan.api.api.host}: the cost is unknown; "
            "name another by --price-as, or give a file by --prices"
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
