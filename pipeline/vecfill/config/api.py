"""How to call an embedding API, and how much to spend on it."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from pydantic import Field

from vecfill.config.spec import Spec, option, spec
from vecfill.errors import ConfigError

KEY_VARIABLES = ("VECFILL_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key, in the order in which they are tried."""

BASE_URL_VARIABLE = "OPENAI_BASE_URL"
"""The openai package reads it too. vecfill resolves it, so that workers on other machines call the same endpoint."""


DEFAULT_HOST = "api.openai.com"
"""Host that an OpenAI client calls without a base URL."""

OWN_FIELDS = {"model": "--model", "input": "--text", "encoding_format": "--encoding-format"}
"""Fields of a request's body that no other option may set, and the option that does."""

SECRET_NAMES = re.compile(
    r"(?i)(?:key|token|secret|passw(?:or)?d|pwd|auth|authorization|credentials?)$|^(?:sig|signature|code|pass)$"
)
"""Matches the names of query parameters that may be secret."""


@spec
class ApiOptions(Spec):
    """How to call an API and what it may cost; only for ``openai:NAME``. The defaults are OpenAI's own limits.

    Attributes:
        base_url: endpoint; None is ``OPENAI_BASE_URL`` or OpenAI's.
        key: the secret; None reads it from the environment. No message shows it.
        key_command: command that prints the key; each worker runs it, and again when the key has expired.
        tokenizer: hub id, folder or ``package:`` of the API's own ``tokenizer.json``; None estimates token counts.
        fields, query_fields: ``NAME=VALUE``, more fields of the request's body; for a query, both.
        encoding_format: how the API is to write vectors.
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
    fields: tuple[str, ...] = option(
        "Add this field to the body of each request, such as 'input_type=search_document'; repeatable.",
        default=(),
        name="api_field",
        metavar="NAME=VALUE",
    )
    query_fields: tuple[str, ...] = option(
        "Add or replace this field in the request for a search query, such as 'input_type=search_query'; repeatable.",
        default=(),
        name="api_query_field",
        metavar="NAME=VALUE",
    )
    encoding_format: Literal["auto", "base64", "float"] = option(
        "Ask the API for vectors in this format; auto is base64 if the API supports it, else float.", default="auto"
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
        fields_in(self.fields)
        fields_in(self.query_fields, "--api-query-field")

    @property
    def url(self) -> str | None:
        """The endpoint; None for OpenAI's own."""
        return self.base_url or os.environ.get(BASE_URL_VARIABLE) or None

    @property
    def host(self) -> str:
        """The endpoint's host, for messages."""
        return (urlsplit(self.url).hostname if self.url else None) or DEFAULT_HOST


def fields_in(assignments: tuple[str, ...], flag: str = "--api-field") -> dict[str, Any]:
    """Returns the fields of a request's body. A value that is JSON is sent as such (``256``, ``true``), else as text.

    Raises:
        ConfigError: no ``NAME=VALUE``, or a field that another option sets.
    """
    fields = dict[str, Any]()
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"{flag} {assignment!r} assigns nothing: write NAME=VALUE, such as input_type=query")
        if owner := OWN_FIELDS.get(name.strip()):
            raise ConfigError(f"{flag} {assignment!r} sets a field that vecfill sends itself: use {owner}")
        try:
            fields[name.strip()] = json.loads(value)
        except ValueError:
            fields[name.strip()] = value
    return fields


def address_of(url: str | None) -> tuple[str | None, dict[str, str]]:
    """Splits an endpoint into its address and its query parameters."""
    parts = urlsplit(url or "")
    return url and urlunsplit(parts._replace(query="", fragment="")), dict(parse_qsl(parts.query))


def check_url(url: str) -> None:
    """Checks an endpoint. The message never quotes the value, which may hold a password.

    Raises:
        ConfigError: no http address, or one with a user, a password, or a secret among its query parameters.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("--base-url is no address: write it like https://api.example.com/v1")
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if parts.username or parts.password or any(map(SECRET_NAMES.search, names)):
        raise ConfigError(
            "--base-url holds a user, a password or a key, which would show in logs: give the key by "
            f"{KEY_VARIABLES[0]} or --api-key-command"
        )
