"""The modelled part of the report: its assumptions, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from vecfill.bench.api import economy
from vecfill.bench.api.economy import Assumptions, Crossing, Line
from vecfill.bench.api.plan import Plan, Tokens, remarks
from vecfill.encode.api.prices import Price, Tier

SIZES = tuple(10.0 ** (step / 4) for step in range(12, 41))
"""Rows of the curves: 10^3 to 10^10."""


def modelled(plan: Plan, measured: Mapping[str, Any], tokens: Tokens) -> dict[str, Any]:
    """Computes what the measured rates, the price table and the user's assumptions come to."""
    given = assumptions(plan, measured, tokens)
    money, price = plan.money, plan.money.price
    priced = price is not None and price.usd_per_million_tokens is not None  # no price is not a price of zero
    rows = len(plan.corpus.texts)

    def break_even(found: Crossing | None) -> dict[str, Any] | None:
        return asdict(found) if found and priced else None

    return {
        "price": describe(price) if price else None,
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
        "cheaper": break_even(economy.cheaper(given)),
        "cheaper_batch": break_even(economy.cheaper(given, batch=True)),
        "tiers": [_tier(given, tier) for tier in price.tiers] if price else [],
        "curves": _curves(given, priced=priced),
        "apis": [_api(given, one) for one in money.prices.api],
    }


def assumptions(plan: Plan, measured: Mapping[str, Any], tokens: Tokens) -> Assumptions:
    """The measured rates, the tables' prices and limits, and the user's assumptions.

    The API's measured rate counts only where the price is its own: of another API only the limits are known.
    """
    money, price = plan.money, plan.money.price
    local, api = measured["sides"]["local"], measured["sides"]["api"]
    requests = api["requests"] or {}
    counted = requests["tokens"] if requests and not money.borrowed else tokens.total
    per_row = counted / len(plan.corpus.texts)
    return Assumptions(
        tokens_per_row=per_row,
        local_tokens_per_s=(local["rows_per_s"] or 0.0) * per_row,
        api_rows_per_s=None if money.borrowed else api["rows_per_s"],
        local_start_s=local["startup_s"],
        api_start_s=0.0 if money.borrowed else api["startup_s"],
        rows_per_request=float(plan.api.api.request_inputs),
        machine_usd_per_hour=money.machine_usd_per_hour,
        setup_usd=money.setup_usd,
        standing_usd_per_month=money.standing_usd,
        growth_rows_per_month=money.growth,
        months=money.months,
        runs_per_month=money.runs,
        **_of_price(price),
    )


def _of_price(price: Price | None) -> dict[str, Any]:
    """Price and limits, of the lowest tier."""
    if price is None:
        return {}
    tier = price.tiers[0] if price.tiers else None
    return {
        "usd_per_million_tokens": price.usd_per_million_tokens or 0.0,
        "batch_usd_per_million_tokens": price.batch_usd_per_million_tokens,
        "tpm": tier.tpm if tier else None,
        "rpm": tier.rpm if tier else None,
    }


def describe(price: Price) -> dict[str, Any]:
    """The price table's entry as the report shows it."""
    return price.model_dump(mode="json") | {"label": price.label, "age_days": price.age_days(), "stale": price.stale()}


def per_million(given: Assumptions, price: Price | None) -> dict[str, float | None]:
    """USD for a million rows, each way; None where it is not known."""
    local = economy.machine_usd_per_row(given)
    return {
        "local": None if local is None else local * economy.MILLION,
        "api": price.cost(given.tokens_per_row * economy.MILLION) if price else None,
        "api_batch": price.batch_cost(given.tokens_per_row * economy.MILLION) if price else None,
    }


def _tier(given: Assumptions, tier: Tier) -> dict[str, Any]:
    """The most rows/s of an account of this tier, and from where on which side is faster."""
    capped = replace(given, tpm=tier.tpm, rpm=tier.rpm)
    faster = economy.faster(capped)
    return {
        **{"name": tier.name, "rpm": tier.rpm, "tpm": tier.tpm, "most_rows_per_s": economy.api_rate(capped)},
        "faster": asdict(faster) if faster else None,
        "seconds": _over_sizes(economy.api_time(capped)),
    }


def _over_sizes(line: Line | None) -> list[float] | None:
    return [line.at(rows) for rows in SIZES] if line else None


def _curves(given: Assumptions, *, priced: bool) -> dict[str, Any]:
    """The lines of the drawings: USD and seconds over rows."""
    return {
        "rows": list(SIZES),
        "local_usd": _over_sizes(economy.local_cost(given)),
        "api_usd": _over_sizes(economy.api_cost(given)) if priced else None,
        "api_batch_usd": _over_sizes(economy.api_cost(given, batch=True)) if priced else None,
        "local_s": _over_sizes(economy.local_time(given)),
    }


def _api(given: Assumptions, price: Price) -> dict[str, Any]:
    """Another API's price for a million of these rows, and the most rows/s of its lowest tier."""
    theirs = replace(given, api_rows_per_s=None, **_of_price(price))
    found = economy.cheaper(theirs) if price.usd_per_million_tokens is not None else None
    costs = per_million(theirs, price)
    return {
        **describe(price),
        "per_million_rows": costs["api"],
        "batch_per_million_rows": costs["api_batch"],
        "most_rows_per_s": economy.api_rate(theirs),
        "cheaper": asdict(found) if found else None,
    }
