"""The options of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from vecfill.engine.choice import EngineOptions
from vecfill.errors import ConfigError
from vecfill.write.throttle import NO_WRITE_LIMITS, WriteLimits


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What bounds a run, and how it is carried out."""

    limit: int | None = None
    max_seconds: float | None = None
    allow_mixed: bool = False
    yes: bool = False
    write_limits: WriteLimits = NO_WRITE_LIMITS
    dedupe: bool = True
    engine: EngineOptions = field(default_factory=EngineOptions)

    def __post_init__(self) -> None:
        for name in ("limit", "max_seconds"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ConfigError(f"{name} is {value}: it must be above 0, or None for no bound")
