"""How to call an embedding API, and how much to spend on it."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from pydantic import Field

from vecfill.config.spec import Spec, option, spec
from vecfill.errors import ConfigError

KEY_VARIABLES = ("VECFILL_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key, in the order in which they are tried."""

BASE_URL_VARIABLE = "OPENAI_BASE_URL"
"""The openai package reads it too. vecfill resolves it, so that workers on other machines call the same endpoint."""


DEFAULT_HOST = "api.openai.com"
"""Host that an OpenAI client calls without a base URL."""


@spec
class ApiOptions(Spec):
    """How to call an API and what it may cost; only for ``openai:NAME``. The defaults are OpenAI's own limits.

    Attributes:
        base_url: endpoint; None is ``OPENAI_BASE_URL`` or OpenAI's.
        key: the secret; None reads it from the environment. No message shows it.
        key_command: command that prints the key; each worker runs it, and again when the key has expired.
        tokenizer: hub id, folder or ``package:`` of the API's own ``tokenizer.json``; None estimates token counts.
        max_concurrency: requests in flight from one encoder.
        request_inputs, request_tokens: texts, and their tokens, in one request.
        request_timeout: seconds for one request.
        give_up_after: the run fails after the API has rejected one text for this many seconds.
        max_requests, max_cost: limits in requests and in USD, never exceeded.
        price_per_million: USD per million tokens; None takes the price table's.
    """

    base_url: str | None = option(
        "API endpoint for openai:NAME, such as http://127.0.0.1:7997/v1.",
        default=None,
        unset="OpenAI's",
        metavar="URL",
    )
    key: str | None = Field(default=None, repr=False)
    key_command: str | None = option(
        "Run COMMAND to get the API key, instead of reading VECFILL_API_KEY or OPENAI_API_KEY.",
        default=None,
        name="api_key_command",
        metavar="COMMAND",
        secret=True,
    )
    tokenizer: str | None = option(
        "Count and truncate tokens with the API's own tokenizer (hub id or folder) instead of estimating.",
        default=None,
    )
    max_concurrency: int = option("Keep at most N API requests in flight per encoder.", default=16, gt=0)
    request_inputs: int = option("Send at most N texts per API request.", default=2_048, gt=0)
    request_tokens: int = option("Send at most N tokens per API request.", default=300_000, gt=0)
    request_timeout: float = option("Time out an API request after X seconds.", default=60.0, gt=0, allow_inf_nan=False)
    give_up_after: float = Field(default=300.0, gt=0)
    max_requests: int | None = option("Send at most N API requests.", default=None, gt=0)
    max_cost: float | None = option("Spend at most X USD on API tokens.", default=None, ge=0, allow_inf_nan=False)
    price_per_million: float | None = option(
        "Price of the API in USD per million tokens.",
        default=None,
        unset="from configs/api-prices.toml",
        ge=0,
        allow_inf_nan=False,
    )

    def __post_init__(self) -> None:
        if self.base_url is not None:
            check_url(self.base_url)

    @property
    def url(self) -> str | None:
        """The endpoint; None for OpenAI's own."""
        return self.base_url or os.environ.get(BASE_URL_VARIABLE) or None

    @property
    def host(self) -> str:
        """The endpoint's host, for messages."""
        return (urlsplit(self.url).hostname if self.url else None) or DEFAULT_HOST


def check_url(url: str) -> None:
    """Checks an endpoint. The message never quotes the value, which may hold a password.

    Raises:
        ConfigError: no http address, or one with a user, a password or a query.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("--base-url is no address: write it like https://api.example.com/v1")
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            "--base-url holds a user, a password or a query, which would show in logs: give the key by "
            f"{KEY_VARIABLES[0]} or --api-key-command"
        )
