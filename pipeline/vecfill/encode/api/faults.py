"""What an API's refusals and failures mean: try again, give a text up, or end the run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vecfill.config.api import KEY_VARIABLES
from vecfill.encode.api.rate_limits import retry_after
from vecfill.errors import ConfigError, EncodeError

if TYPE_CHECKING:
    from openai import APIStatusError

THROTTLED = 429
_OVERLOADED = frozenset({THROTTLED, 503, 504, 529})
_TRANSIENT = frozenset({408, 409, 425})
_OF_THE_TEXT = frozenset({400, 413, 422})
_OF_THE_MODEL = frozenset({"model_not_found", "invalid_model"})
_SERVER_ERROR = 500

_SHOWN = 200
"""Characters of a server's message that are passed on."""


class RefusedError(Exception):
    """The API refuses this request for what is in it: the fault of one of its texts."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A request that may succeed when it is sent again.

    Attributes:
        what: happened, for the message should it go on.
        overload: the API has too much to do.
        wait: seconds that it asks for; None where it leaves that to us.
        bounded: counts towards the few failures that end the run; an API that only puts off does not.
    """

    what: str
    overload: bool = False
    wait: float | None = None
    bounded: bool = True


def judged(error: APIStatusError, what: str, said: str) -> Failure:
    """Says what an answer with an error's status means.

    Args:
        error: of the client.
        what: model and host, for messages.
        said: the server's words, without the key.

    Returns:
        The failure, where the same request may succeed later.

    Raises:
        RefusedError: a text is at fault.
        ConfigError: the key, the model or the address is.
        EncodeError: the account has nothing left.
    """
    status = error.status_code
    if status in _OF_THE_TEXT and not _blames_model(error):
        raise RefusedError(f"HTTP {status}: {said}")
    if error.code == "insufficient_quota":
        raise EncodeError(f"{what}: the account's quota is used up: {said}: add credit, then run again")
    if status in _OVERLOADED:
        return Failure(what=f"HTTP {status} ({said})", overload=True, wait=_wait(error), bounded=status != THROTTLED)
    if status in _TRANSIENT or status >= _SERVER_ERROR:
        return Failure(what=f"HTTP {status} ({said})", wait=_wait(error))
    if location := error.response.headers.get("location"):
        raise ConfigError(f"{what} has moved (HTTP {status}) to {_place(location)}: give the new address as --base-url")
    raise ConfigError(_remedy(status, what, said))


def _place(location: str) -> str:
    """An address without password and query, which may be secret."""
    parts = urlsplit(location)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if host else parts.path


def _wait(error: APIStatusError) -> float | None:
    """What the server asks for; where that is no time at all, it is left to us: asking at once would be a storm."""
    return retry_after(error.response.headers, datetime.now(UTC)) or None


def said(error: APIStatusError) -> str:
    """The server's own message on one line, cut short."""
    body = error.body
    message = body.get("message") or body.get("detail") if isinstance(body, dict) else None
    line = " ".join(str(message or error.message).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def blames(error: APIStatusError, parameter: str) -> bool:
    """Whether the API refuses the request for one of its parameters."""
    return error.status_code in _OF_THE_TEXT and (error.param == parameter or parameter in error.message)


def _blames_model(error: APIStatusError) -> bool:
    return error.code in _OF_THE_MODEL or error.param in ("model", "dimensions")


def _remedy(status: int, what: str, said: str) -> str:
    """One line; what a server says to a wrong key may quote it, in part."""
    if status == 401:  # noqa: PLR2004
        return f"{what} does not take the key (HTTP 401): check {' or '.join(KEY_VARIABLES)}, or --api-key-command"
    if status == 403:  # noqa: PLR2004
        return f"{what} does not allow this (HTTP 403): {said}: use another key, or ask for access to the model"
    if status == 404:  # noqa: PLR2004
        return f"{what} is not found (HTTP 404): {said}: check --model and --base-url, which often ends in /v1"
    return f"{what} refuses the request (HTTP {status}): {said}: check --model, --truncate-dim and --base-url"
