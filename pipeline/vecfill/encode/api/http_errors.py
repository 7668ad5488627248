"""What a failed request means: retry it, fail a text, or end the run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vecfill.config.api import KEY_VARIABLES
from vecfill.encode.api.rate_limits import retry_after
from vecfill.encode.encoding import one_line
from vecfill.errors import ConfigError, EncodeError

if TYPE_CHECKING:
    from openai import APIStatusError

THROTTLED = 429
_UNPAID = 402
_OVERLOADED = frozenset({THROTTLED, 503, 504, 529})
_TRANSIENT = frozenset({408, 409, 425})
_TEXT_REFUSED = frozenset({400, 413, 422})
_MODEL_REFUSED = frozenset({"model_not_found", "invalid_model"})
_SERVER_ERROR = 500

_MESSAGE_FIELDS = ("message", "msg", "error", "detail", "errors", "title")

_MESSAGE_LENGTH = 200
"""Characters of a server's message that are passed on."""


class RefusedError(Exception):
    """The API refuses the request because of one of its texts."""


class RetryableError(Exception):
    """The request may succeed when it is sent again.

    Attributes:
        overloaded: the API has too much to do.
        wait: seconds that the API asks to wait; None if it does not say.
        counts: towards the few failures that end the run; a throttled request does not.
        unserved: the API met an error of its own, of which the request may be the cause.
    """

    def __init__(
        self,
        message: str,
        *,
        overloaded: bool = False,
        wait: float | None = None,
        counts: bool = True,
        unserved: bool = False,
    ) -> None:
        super().__init__(message)
        self.overloaded, self.wait, self.counts, self.unserved = overloaded, wait, counts, unserved


def classify(error: APIStatusError, what: str, message: str) -> Exception:
    """Returns the error that an HTTP error status stands for.

    Args:
        error: of the client.
        what: model and host, for messages.
        message: the server's message, without the key.

    Returns:
        ``RetryableError``; ``RefusedError`` if a text is at fault; ``ConfigError`` if the key, the model or the address
        is; ``EncodeError`` if the account has no quota left.
    """
    status = error.status_code
    if status in _TEXT_REFUSED and not (error.code in _MODEL_REFUSED or error.param in ("model", "dimensions")):
        return RefusedError(f"HTTP {status}: {message}")
    if error.code == "insufficient_quota" or status == _UNPAID:
        return EncodeError(f"{what}: the account's quota is used up: {message}: add credit, then run again")
    if status in _OVERLOADED | _TRANSIENT or status >= _SERVER_ERROR:
        return RetryableError(
            f"HTTP {status} ({message})",
            overloaded=status in _OVERLOADED,
            wait=retry_after(error.response.headers, datetime.now(UTC)) or None,  # 0 would be a storm of retries
            counts=status != THROTTLED,
            unserved=status >= _SERVER_ERROR and status not in _OVERLOADED,
        )
    if location := error.response.headers.get("location"):
        address = _without_secrets(location)
        return ConfigError(f"{what} has moved (HTTP {status}) to {address}: give the new address as --base-url")
    return ConfigError(_complaint(status, what, message))


def _without_secrets(location: str) -> str:
    """Returns an address without password and query, which may be secret."""
    parts = urlsplit(location)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if host else parts.path


def server_message(error: APIStatusError) -> str:
    """Returns the server's message on one line, cut short."""
    return message_in(error.body) or one_line(error.message, _MESSAGE_LENGTH)


def message_in(body: Any) -> str | None:
    """Returns the message in an error's body, whose form differs by server; None if there is none."""
    if isinstance(body, dict):
        return next(filter(None, (message_in(body.get(name)) for name in _MESSAGE_FIELDS)), None)
    if isinstance(body, list):
        return message_in(body[0]) if body else None
    return one_line(body, _MESSAGE_LENGTH) or None if isinstance(body, str) else None


def error_in(answer: dict[str, Any]) -> Exception | None:
    """Returns the error that an answer of HTTP 200 holds if it names the status that it should have had."""
    error = answer.get("error")
    code = str(error.get("code") or error.get("status")) if isinstance(error, dict) else ""
    status, message = int(code) if code.isdecimal() else 0, f"HTTP 200 with error {code}: {message_in(error)}"
    if status in _TEXT_REFUSED:
        return RefusedError(message)
    if status in _OVERLOADED:
        return RetryableError(message, overloaded=True, counts=status != THROTTLED)
    return None


def _complaint(status: int, what: str, message: str) -> str:
    """Returns complaint and remedy; for a wrong key without the server's message, which may quote a part of it."""
    if status == 401:  # noqa: PLR2004
        return f"{what} does not accept the key (HTTP 401): check {' or '.join(KEY_VARIABLES)}, or --api-key-command"
    if status == 403:  # noqa: PLR2004
        return f"{what} does not allow this (HTTP 403): {message}: use another key, or ask for access to the model"
    if status == 404:  # noqa: PLR2004
        return f"{what} is not found (HTTP 404): {message}: check --model and --base-url, which often ends in /v1"
    return f"{what} refuses the request (HTTP {status}): {message}: check --model, --truncate-dim and --base-url"
