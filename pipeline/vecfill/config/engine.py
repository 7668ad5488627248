"""Where a run executes, in this process or on Ray, and with how many workers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vecfill.config.spec import Spec, option, spec
from vecfill.errors import ConfigError

EngineName = Literal["auto", "ray", "inline"]

LEAST_CONNECTIONS = 3
"""A reader, a writer and the run's own session: the in-process engine opens these, and Ray needs at least these."""


@spec
class EngineOptions(Spec):
    """The engine of a run, its workers and their connections; ``verbose`` also shows Ray's log."""

    engine: EngineName = option(
        "Run on ray (a cluster, or this whole machine), inline (in this process), or auto (the faster for this table).",
        default="auto",
    )
    ray_address: str | None = option("Join this Ray cluster, such as ray-head:6379 or auto.", default=None)
    actors: int | None = option(
        "Start N encoders on Ray.", default=None, unset="one per GPU, or one with all cores", gt=0
    )
    gpus_per_actor: float | None = option(
        "Reserve X GPUs per encoder; with 0.5 two encoders share a GPU.", default=None, unset="1", gt=0
    )
    writers: int | None = option(
        "Start N writers on Ray, each with its own connection.", default=None, unset="1, or 2 per GPU up to 4", gt=0
    )
    max_connections: int | None = option(
        "Open at most N database connections in total, for all workers.", default=None, ge=LEAST_CONNECTIONS
    )
    verbose: bool = Field(default=False)

    def __post_init__(self) -> None:
        needed = self.writers and self.writers + LEAST_CONNECTIONS - 1
        if self.max_connections and needed and needed > self.max_connections:
            raise ConfigError(
                f"{self.writers} writers, a reader and the run itself need {needed} connections but "
                f"--max-connections is {self.max_connections}: lower --writers or raise --max-connections"
            )
