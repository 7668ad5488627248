"""Limits that ``vecfill status --set NAME=VALUE`` changes while a run goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from vecfill.config.limits import NO_WRITE_LIMITS, WriteLimits
from vecfill.errors import ConfigError

ADJUSTABLE = ("max_rate", "max_latency", "pause")
"""Fields of ``WriteLimits``, and their keys among the recorded settings of a run."""


def parse_adjustments(texts: Iterable[str]) -> dict[str, Any]:
    """Reads ``NAME=VALUE`` texts into plain values by name, for JSON; None for an empty value, which removes the limit.

    Raises:
        ConfigError: another name, or a value that the option of a run would refuse.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if name not in ADJUSTABLE or not equals:
            raise ConfigError(
                f"--set {text!r}: write NAME=VALUE with one of {', '.join(ADJUSTABLE)}, as in max_rate=500"
            )
        given: dict[str, Any] = {name: value}
        found[name] = getattr(WriteLimits(**given), name) if value else None
    return found


def adjusted(limits: WriteLimits, settings: Mapping[str, Any]) -> WriteLimits:
    """Returns the limits with those that can be adjusted as these settings have them; absent ones are defaults.

    Raises:
        ConfigError: a value does not fit.
    """
    return replace(limits, **{name: settings.get(name, getattr(NO_WRITE_LIMITS, name)) for name in ADJUSTABLE})


def as_texts(settings: Mapping[str, Any], names: Iterable[str] = ADJUSTABLE) -> list[str]:
    """Returns those of the settings that are set, as ``parse_adjustments`` reads them."""
    values = ((name, settings[name]) for name in names if name in settings)
    return [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in values]
