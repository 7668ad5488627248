"""The modelled part of the report: assumptions spelled out, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from vecfill.bench.api import economy
from vecfill.bench.api.economy import Assumptions, Crossing
from vecfill.bench.api.plan import Money, Plan, Tokens, remarks
from vecfill.encode.api.prices import Price, Tier

SIZES = tuple(10.0 ** (step / 4) for step in range(12, 41))
"""Rows that the curves are reckoned at: 10^3 to 10^10."""

GROWTHS = tuple(10.0 ** (step / 4) for step in range(8, 37))
"""Rows a month likewise: 10^2 to 10^9."""

LARGEST = 3
"""Assumptions whose effect is told."""


def modelled(plan: Plan, measured: Mapping[str, Any], tokens: Tokens) -> dict[str, Any]:
    """Reckons what the measured rates, the price table and the user's assumptions come to."""
    given = assumptions(plan, measured, tokens)
    money, price = plan.money, plan.money.price
    rows = len(plan.rows.texts)
    return {
        "price": price_told(price) if price else None,
        "borrowed": money.borrowed,
        "machine": money.machine.model_dump(mode="json") | {"usd_per_hour_with_power": money.machine_usd_per_hour},
        "power": money.prices.power.model_dump(mode="json") if money.prices.power else None,
        "assumptions": asdict(given),
        "remarks": remarks(plan, exact=tokens.exact),
        "corpus": {
            "rows": rows,
            "api_usd": price.cost(tokens.total) if price else None,
            "api_batch_usd": price.batch_cost(tokens.total) if price else None,
            "local_usd": (economy.machine_usd_per_row(given) or 0.0) * rows,
        },
        "per_million_rows": per_million(given, price),
        "cheaper": _crossing(economy.cheaper(given) if _priced(price) else None),
        "cheaper_batch": _crossing(economy.cheaper(given, batch=True) if _priced(price) else None),
        "cheaper_by_growth": _crossing(economy.cheaper_by_growth(given, rows) if _priced(price) else None),
        "tiers": [_tier(given, tier) for tier in price.tiers] if price else [],
        "curves": curves(given, price),
        "sensitivity": [_swing(one) for one in economy.sensitivity(given)[:LARGEST]] if _priced(price) else [],
        "apis": [_api(given, one) for one in money.prices.api],
    }


def assumptions(plan: Plan, measured: Mapping[str, Any], tokens: Tokens) -> Assumptions:
    """What was measured, what the tables say, and what the user assumes.

    The API's measured rate counts only where the price is its own: of another API nothing but its limits is known.
    """
    money, sides = plan.money, measured["sides"]
    local, api, price = sides["local"], sides["api"], money.price
    requests = api["requests"] or {}
    tier = price.tiers[0] if price and price.tiers else None
    n = len(plan.rows.texts)
    per_row = (requests["tokens"] if requests and not money.borrowed else tokens.total) / n
    return Assumptions(
        tokens_per_row=per_row,
        local_tokens_per_s=(local["rows_per_s"] or 0.0) * per_row,
        api_rows_per_s=None if money.borrowed else api["rows_per_s"],
        local_start_s=local["startup_s"],
        api_start_s=0.0 if money.borrowed else api["startup_s"],
        usd_per_million_tokens=(price.usd_per_million_tokens or 0.0) if price else 0.0,
        batch_usd_per_million_tokens=price.batch_usd_per_million_tokens if price else None,
        tpm=tier.tpm if tier else None,
        rpm=tier.rpm if tier else None,
        rows_per_request=float(plan.api.api.request_inputs),
        machine_usd_per_hour=money.machine_usd_per_hour,
        **_of_user(money),
    )


def _of_user(money: Money) -> dict[str, float]:
    return {
        "setup_usd": money.setup_usd,
        "standing_usd_per_month": money.standing_usd,
        "growth_rows_per_month": money.growth,
        "months": money.months,
        "runs_per_month": money.runs,
    }


def _priced(price: Price | None) -> bool:
    """Whether there is a price at all: none is not the same as zero."""
    return price is not None and price.usd_per_million_tokens is not None


def price_told(price: Price) -> dict[str, Any]:
    """The entry as the report shows it."""
    return price.model_dump(mode="json") | {"label": price.label, "age_days": price.age_days(), "stale": price.stale()}


def per_million(given: Assumptions, price: Price | None) -> dict[str, float | None]:
    """USD for a million rows, each way; None where it is not known."""
    local = economy.machine_usd_per_row(given)
    return {
        "local": None if local is None else local * economy.MILLION,
        "api": price.cost(given.tokens_per_row * economy.MILLION) if price else None,
        "api_batch": price.batch_cost(given.tokens_per_row * economy.MILLION) if price else None,
    }


def _crossing(found: Crossing | None) -> dict[str, Any] | None:
    return asdict(found) if found else None


def _tier(given: Assumptions, tier: Tier) -> dict[str, Any]:
    """What an account of this tier may reach, and from where on which side is faster."""
    capped = replace(given, tpm=tier.tpm, rpm=tier.rpm)
    return {
        "name": tier.name,
        "rpm": tier.rpm,
        "tpm": tier.tpm,
        "most_rows_per_s": economy.api_rate(capped),
        "faster": _crossing(economy.faster(capped)),
        "faster_by_growth": _crossing(economy.faster_by_growth(capped)),
        "seconds": _seconds(capped),
    }


def _seconds(given: Assumptions) -> list[float] | None:
    line = economy.api_time(given)
    return [line.at(rows) for rows in SIZES] if line else None


def curves(given: Assumptions, price: Price | None) -> dict[str, Any]:
    """The lines of the figures: USD and seconds over rows, and the break-even over monthly growth."""
    local, time = economy.local_cost(given), economy.local_time(given)
    api = economy.api_cost(given) if _priced(price) else None
    batch = economy.api_cost(given, batch=True) if _priced(price) else None
    return {
        "rows": list(SIZES),
        "local_usd": [local.at(rows) for rows in SIZES] if local else None,
        "api_usd": [api.at(rows) for rows in SIZES] if api else None,
        "api_batch_usd": [batch.at(rows) for rows in SIZES] if batch else None,
        "local_s": [time.at(rows) for rows in SIZES] if time else None,
        "growth": list(GROWTHS),
        "cheaper_from": [
            _finite(economy.cheaper_from(replace(given, growth_rows_per_month=growth))) for growth in GROWTHS
        ]
        if _priced(price)
        else None,
    }


def _finite(rows: float) -> float | None:
    """JSON has no infinity: None is never."""
    return rows if math.isfinite(rows) else None


def _swing(one: economy.Swing) -> dict[str, Any]:
    return asdict(one) | {"at_low": _finite(one.at_low), "at_high": _finite(one.at_high)}


def _api(given: Assumptions, price: Price) -> dict[str, Any]:
    """Another API's price for a million of these rows, and what its lowest tier lets through."""
    tier = price.tiers[0] if price.tiers else None
    theirs = replace(
        given,
        api_rows_per_s=None,
        usd_per_million_tokens=price.usd_per_million_tokens or 0.0,
        batch_usd_per_million_tokens=price.batch_usd_per_million_tokens,
        tpm=tier.tpm if tier else None,
        rpm=tier.rpm if tier else None,
    )
    return {
        **price_told(price),
        "per_million_rows": price.cost(given.tokens_per_row * economy.MILLION),
        "batch_per_million_rows": price.batch_cost(given.tokens_per_row * economy.MILLION),
        "most_rows_per_s": economy.api_rate(theirs),
        "cheaper": _crossing(economy.cheaper(theirs) if _priced(price) else None),
    }
