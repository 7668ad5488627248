"""How long an API's headers ask to wait. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_PARTS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}

Headers = Mapping[str, str]


def retry_after(headers: Headers, now: datetime) -> float | None:
    """Returns the seconds of ``retry-after-ms`` or ``Retry-After`` (seconds or an HTTP date), or None."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1_000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())


def duration(text: str | None) -> float | None:
    """Returns the seconds of a reset header, such as ``6m0s``, ``20ms`` or ``1.5``; None for anything else."""
    plain = _number(text)
    if plain is not None or text is None:
        return plain
    found = _PARTS.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text.strip():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in found)


def rate_wait(headers: Headers, tokens: int) -> float:
    """Returns the seconds until the rate limits admit a request of that many tokens; 0 if they already do.

    The quota refills evenly until ``reset``, when it is full again, so a part of that time gives the part needed.
    """
    return max(_refill(headers, "requests", 1), _refill(headers, "tokens", tokens))


def _refill(headers: Headers, kind: str, needed: int) -> float:
    left = _number(headers.get(f"x-ratelimit-remaining-{kind}"))
    reset = duration(headers.get(f"x-ratelimit-reset-{kind}"))
    if left is None or reset is None or left >= needed:
        return 0.0
    limit = _number(headers.get(f"x-ratelimit-limit-{kind}"))
    if limit is None or limit <= left:
        return reset
    return reset * min(1.0, (needed - left) / (limit - left))


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) and number >= 0 else None
