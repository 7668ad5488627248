"""What a run would work with: its engine, device, workers and connections."""

from __future__ import annotations

import os

from vecfill.config.engine import LEAST_CONNECTIONS, EngineOptions
from vecfill.engine.choice import choose, gpu_count
from vecfill.engine.pools import Pools
from vecfill.job import Encode
from vecfill.planning.record import Resources


def resources_of(encode: Encode, options: EngineOptions, rows: int) -> Resources:
    """Chooses as a run does, and starts nothing.

    Args:
        encode: the run's encoder.
        options: how to run it.
        rows: rows to embed.

    Raises:
        ConfigError: the workers asked for do not fit this machine.
    """
    gpus, cores = gpu_count(), len(os.sched_getaffinity(0))
    name, reason = choose(options, rows=rows, encode=encode, gpus=gpus)
    workers: dict[str, int] | None = {"read": 1, "encode": 1, "write": 1}
    connections: int | None = LEAST_CONNECTIONS
    if name == "ray":
        workers = None if options.ray_address else _on_this_machine(encode, options, gpus, cores)
        connections = sum(workers[stage] for stage in ("read", "write")) + 1 if workers else options.max_connections
    device = encode.device if encode.device != "auto" else "cuda" if gpus else "cpu"
    return Resources(
        engine=name, reason=reason, device=device, gpus=gpus, cores=cores, workers=workers, connections=connections
    )


def _on_this_machine(encode: Encode, options: EngineOptions, gpus: int, cores: int) -> dict[str, int]:
    device = "cpu" if encode.device == "remote" else encode.device
    pools = Pools.fitting(
        {"CPU": float(cores), "GPU": float(gpus), "nodes": 1.0},
        device=device,
        actors=options.actors,
        gpus=options.gpus_per_actor,
        writers=options.writers,
    ).within(options.max_connections)
    return {"read": pools.readers, "encode": pools.encoders, "write": pools.writers}
