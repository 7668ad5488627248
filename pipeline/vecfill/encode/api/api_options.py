"""How an embedding API is asked: light and picklable, so that it travels with the model's name."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from urllib.parse import urlsplit

from vecfill.encode.api import api_key as key
from vecfill.encode.api import prices
from vecfill.encode.api.budget import Limits
from vecfill.errors import ConfigError

_log = logging.getLogger(__name__)

PREFIX = "openai:"

DEFAULT_HOST = prices.DEFAULT_HOST

BASE_URL_VARIABLE = "OPENAI_BASE_URL"
"""That the openai package reads too; read here so that workers on other machines ask the same API."""


@dataclass(frozen=True, kw_only=True)
class ApiOptions:
    """Everything that an API is told or held to; the defaults are OpenAI's own limits.

    Attributes:
        base_url: the endpoint; None is ``OPENAI_BASE_URL`` or OpenAI's.
        key: the secret; None takes the environment's. Never part of a message.
        key_command: shell command that prints the key; run where the key is needed, and again when it has expired.
        tokenizer: hub id, folder or ``package:`` with a ``tokenizer.json`` that is the API's own; None estimates.
        max_concurrency: requests under way at most, to an encoder.
        request_inputs, request_tokens: texts, and tokens of all of them, in a request at most.
        request_timeout: seconds that one request may take.
        give_up_after: seconds after which a text that the API keeps putting off fails the run.
        max_requests, max_cost: requests, and USD, that are never passed.
        price_per_million: USD a million tokens; None takes the price table's.

    Raises:
        ConfigError: a value is outside of what is allowed.
    """

    base_url: str | None = None
    key: str | None = field(default=None, repr=False)
    key_command: str | None = field(default=None, repr=False)
    tokenizer: str | None = None
    max_concurrency: int = 16
    request_inputs: int = 2_048
    request_tokens: int = 300_000
    request_timeout: float = 60.0
    give_up_after: float = 300.0
    max_requests: int | None = None
    max_cost: float | None = None
    price_per_million: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_concurrency", "request_inputs", "request_tokens", "request_timeout", "max_requests"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} is {value}: it must be above 0")
        for name in ("max_cost", "price_per_million"):
            if (value := getattr(self, name)) is not None and not 0 <= value < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} is {value}: it must be a number of USD, 0 or more")
        if self.base_url is not None:
            _check_url(self.base_url)

    @property
    def url(self) -> str | None:
        """The endpoint; None for OpenAI's own."""
        return self.base_url or os.environ.get(BASE_URL_VARIABLE) or None

    @property
    def host(self) -> str:
        """The endpoint's host: for messages."""
        return (urlsplit(self.url).hostname if self.url else None) or DEFAULT_HOST

    def price(self, name: str) -> float | None:
        """USD a million tokens of the API's model ``name``; None where nobody says."""
        if self.price_per_million is not None:
            return self.price_per_million
        found = self._listed(name)
        return found.usd_per_million_tokens if found else None

    def _listed(self, name: str) -> prices.Price | None:
        return prices.load().find(name, self.url)

    def limits(self, name: str) -> Limits:
        """What a run may spend, as a ledger takes it."""
        return Limits(max_requests=self.max_requests, max_cost=self.max_cost, price=self.price(name))

    def check(self, name: str) -> None:
        """Checks what can be known without sending a byte.

        Raises:
            ConfigError: no name, no openai package, no key, or a cost to keep to without a price.
        """
        if not name.strip():
            raise ConfigError(f"model {PREFIX!r} names no model: write it like openai:text-embedding-3-small")
        if find_spec("openai") is None:
            raise ConfigError(f"model {PREFIX}{name} needs the openai package: pip install 'vecfill[api]'")
        if self.url is not None:
            _check_url(self.url)
        if self.url is None and not (self.key or self.key_command or key.from_environment()):
            raise ConfigError(
                f"model {PREFIX}{name} needs a key: set {' or '.join(key.VARIABLES)}, or give --api-key-command"
            )
        if self.max_cost is not None and self.price(name) is None:
            raise ConfigError(
                f"--max-cost is {self.max_cost:g} but the price of {name} at {self.host} is not known: "
                "give --price-per-million USD, or keep to --max-requests"
            )

    def resolved(self, name: str) -> ApiOptions:
        """The same with endpoint, price and key settled: for a worker on another machine.

        A key from the environment travels with it; one from a command does not, as each worker runs the command.
        """
        listed = self._listed(name) if self.price_per_million is None else None
        if listed is not None and listed.stale():
            _log.warning(
                "the price of %s is %d days old: look at %s, or give --price-per-million",
                *(listed.label, listed.age_days(), listed.source),
            )
        secret = self.key or (None if self.key_command else key.from_environment())
        return replace(self, base_url=self.url, key=secret, price_per_million=self.price(name))


def refuse_local_settings(name: str, settings: Mapping[str, object]) -> None:
    """An API's model is as it is: what tells a local one how to compute would be ignored.

    Raises:
        ConfigError: one of these settings has a value.
    """
    for setting in ("revision", "prompt_name", "dtype", "device", "trust_remote_code"):
        if settings[setting] not in (None, "auto", False):
            raise ConfigError(
                f"--{setting.replace('_', '-')} is {settings[setting]!r} but model {name} is an API's, which has "
                "no such setting: leave it out"
            )


def _check_url(url: str) -> None:
    """The value is never quoted: it may hold a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("--base-url is no address: write it like https://api.example.com/v1")
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            "--base-url holds a user, a password or a query, which would show in logs: give the key by "
            f"{key.VARIABLES[0]} or --api-key-command"
        )
