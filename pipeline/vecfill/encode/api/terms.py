"""Endpoint, key, price and limits of an API, from its options, the environment and the price table."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec

from vecfill.config.api import KEY_VARIABLES, ApiOptions, check_url
from vecfill.config.model import API_PREFIX, Model
from vecfill.encode.api import api_key, prices
from vecfill.encode.api.budget import Limits, RequestBudget
from vecfill.errors import ConfigError

_log = logging.getLogger(__name__)


def price_of(model: Model) -> float | None:
    """Returns the price of an API's model in USD per million tokens; None where it is unknown."""
    if model.api.price_per_million is not None:
        return model.api.price_per_million
    found = _listed(model)
    return found.usd_per_million_tokens if found else None


def own_price(model: Model, listed: prices.Price | None) -> prices.Price | None:
    """Returns the table's entry, or the price of --price-per-million in its place, which has no batch price."""
    asked = model.api
    if asked.price_per_million is None:
        return listed
    host, source = asked.host, "--price-per-million"
    if listed is None:
        today = datetime.now(UTC).date()
        listed = prices.Price(
            provider=host, host=host, model=model.api_name, dimension=None, source=source, dated=today
        )
    else:
        source = f"{source} for the price, {listed.source} for the limits"
    price = {"usd_per_million_tokens": asked.price_per_million, "batch_usd_per_million_tokens": None}
    return listed.model_copy(update={**price, "source": source})


def limits_of(model: Model) -> Limits:
    """Returns what a run may spend on an API's model."""
    return Limits(max_requests=model.api.max_requests, max_cost=model.api.max_cost, price=price_of(model))


def shared_budget(model: Model) -> RequestBudget | None:
    """Returns a new budget for all encoders of a run; None for a local model, which sends no requests."""
    return RequestBudget(limits_of(model)) if model.is_api else None


def check_api(model: Model) -> None:
    """Checks an API's model as far as possible without sending a byte.

    Raises:
        ConfigError: no name, no openai package, no key, or a cost limit without a price.
    """
    api, url = model.api, model.api.url
    if not model.api_name.strip():
        raise ConfigError(f"model {API_PREFIX!r} names no model: write it like openai:text-embedding-3-small")
    if find_spec("openai") is None:
        raise ConfigError(f"model {model.name} needs the openai package: pip install 'vecfill[api]'")
    if url is not None:
        check_url(url)
    elif not (api.key or api.key_command or api_key.from_environment()):
        raise ConfigError(
            f"model {model.name} needs a key: set {' or '.join(KEY_VARIABLES)}, or give --api-key-command"
        )
    if api.max_cost is not None and price_of(model) is None:
        raise ConfigError(
            f"--max-cost is {api.max_cost:g} but the price of {model.api_name} at {api.host} is not known: "
            "give --price-per-million, or use --max-requests"
        )


def resolved(model: Model) -> ApiOptions:
    """Returns the options of an API's model with endpoint, price and key filled in, for a worker on another machine.

    A key from the environment is included; one from a command is not, as each worker runs the command.
    """
    api = model.api
    listed = _listed(model) if api.price_per_million is None else None
    if listed is not None and listed.stale():
        _log.warning(
            "the price of %s is %d days old: check %s, or give --price-per-million",
            *(listed.label, listed.age_days(), listed.source),
            extra={"model": model.name, "price_age_days": listed.age_days()},
        )
    secret = api.key or (None if api.key_command else api_key.from_environment())
    return replace(api, base_url=api.url, key=secret, price_per_million=price_of(model))


def _listed(model: Model) -> prices.Price | None:
    return prices.load().find(model.api_name, model.api.url)
