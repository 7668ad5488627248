"""Amounts formatted for people: significant digits, in a unit that fits. Pure."""

from __future__ import annotations

import math
from typing import Any

CENTS_BELOW = 100.0
"""USD from which on cents are not shown."""


def number(value: float | None, digits: int = 3) -> str:
    """With so many significant digits, in thousands, or a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}" if abs(value) < 10**digits else f"{value:,.0f}"


def rows_short(rows: float | None) -> str:
    """Such as ``420 million``: a break-even is not known to more than two digits."""
    if rows is None:
        return "–"
    units = ((1e12, 1e12, " trillion"), (1e9, 1e9, " billion"), (1e6, 1e6, " million"), (1e3, 1.0, ""))
    for least, unit, word in units:
        if rows >= least:
            return f"{float(f'{rows / unit:.2g}'):,.15g}{word}"
    return f"{rows:.0f}"


def usd(value: float | None) -> str:
    """Such as ``$0.30``; a dash where it is not known."""
    if value is None:
        return "–"
    if 1 <= value < CENTS_BELOW:
        return f"${value:.2f}"
    return f"${number(value, 2)}" if 0 < value < 1 else f"${value:,.0f}"


def seconds(value: float | None) -> str:
    """In a unit that fits."""
    if value is None:
        return "–"
    for unit, word in ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min")):
        if value >= 2 * unit:
            return f"{number(value / unit, 2)} {word}"
    return f"{number(value * 1e3)} ms" if value < 1 else f"{number(value)} s"


def percent(value: float | None) -> str:
    """With one place, or a dash."""
    return "–" if value is None else f"{100 * value:.1f}%"


def interval(mean: dict[str, Any] | None) -> str:
    """A mean in percent, with its interval."""
    return "–" if mean is None else f"{percent(mean['mean'])} ({percent(mean['low'])} to {percent(mean['high'])})"


def megabytes(value: float | None) -> str:
    """In MB (10^6 bytes)."""
    return "–" if value is None else f"{number(value / 1e6)} MB"


def plain(value: float) -> str:
    """A value with its own digits, at most four."""
    return f"{float(f'{value:.4g}'):,}".removesuffix(".0")
