"""The tokens of a run, and what they would cost at an API, by a sample of its texts."""

from __future__ import annotations

from collections import Counter

import numpy as np

from vecfill.config.model import Model
from vecfill.encode.api.prices import Price, PriceTable
from vecfill.encode.api.terms import own_price
from vecfill.encode.tokens.declared_tokens import DeclaredTokens
from vecfill.planning.record import ApiCost, TokenEstimate

SMALLEST_BIN = 8


def estimate_tokens(declared: DeclaredTokens, texts: list[str], *, rows: int, computed: int) -> TokenEstimate:
    """Counts the tokens of a sample.

    Args:
        declared: the model's tokenizer and limit.
        texts: the sample, at least one.
        rows: rows that a run embeds.
        computed: texts that it computes.
    """
    tokens = declared.count(texts)
    bins = Counter(max(SMALLEST_BIN, 1 << int(count - 1).bit_length()) for count in tokens.tolist())
    long = np.zeros(len(tokens), np.bool_) if declared.limit is None else tokens > declared.limit
    share, windows = rows / len(texts), declared.shape.counts(tokens[long]) if declared.shape else None
    return TokenEstimate(
        tokenizer=declared.tokenizer,
        limit=declared.limit,
        mean=round(float(tokens.mean()), 1),
        median=int(np.median(tokens)),
        p95=int(np.percentile(tokens, 95)),
        most=int(tokens.max()),
        histogram={size: bins[size] for size in _sizes(bins)},
        truncated=0 if declared.shape else round(share * long.sum()),
        windowed=round(share * long.sum()) if declared.shape else 0,
        windows=0 if windows is None else round(share * windows.sum()),
        total=round(computed * float(tokens.mean())),
    )


def _sizes(bins: Counter[int]) -> list[int]:
    """The bins from the first to the last, those without rows too."""
    size, found = min(bins), list[int]()
    while size <= max(bins):
        found.append(size)
        size *= 2
    return found


def api_costs(prices: PriceTable, model: Model, tokens: int) -> tuple[ApiCost, ...]:
    """Returns what so many tokens cost at each API of a price table, the cheapest first, those without a price last."""
    listed = prices.find(model.api_name, model.api.url) if model.is_api else None
    own = own_price(model, listed) if model.is_api else None
    costs = [_cost(price, tokens, chosen=False) for price in prices.api if price is not listed]
    if own:
        costs.append(_cost(own, tokens, chosen=True))
    return tuple(sorted(costs, key=lambda one: (one.usd is None, one.usd, one.api)))


def _cost(price: Price, tokens: int, *, chosen: bool) -> ApiCost:
    return ApiCost(
        api=price.label,
        usd=price.cost(tokens),
        batch_usd=price.batch_cost(tokens),
        dated=price.dated.isoformat(),
        chosen=chosen,
    )
