"""How many workers each stage gets on a Ray cluster, and what each encoder reserves. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from vecfill.errors import ConfigError

READ_CPUS, WRITE_CPUS = 0.25, 0.2
"""Reading and writing mostly wait for the server."""

GPU_CPUS = 0.1
"""Most CPUs that an encoder on a GPU reserves: it waits for the GPU."""

MAX_READERS = 8
"""Most readers of the whole cluster: each reads at least 100,000 rows per second."""

CORES_AN_ENCODER = 8
"""Cores of one CPU encoder on a larger node: ``encode.device.compute_threads`` takes at most eight threads."""


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Actors by stage and what each encoder reserves.

    Attributes:
        encoders: encoders of the whole cluster.
        share: encoders that share the cores of one node.
        cpus: CPUs that each encoder reserves.
        gpus: GPUs that each encoder reserves; 0 if the model computes on CPUs.
        writers: writers of the whole cluster.
        readers: readers of the whole cluster.
        spare_cpus: CPUs of the cluster that the encoders leave to readers and writers.
    """

    encoders: int
    share: int
    cpus: float
    gpus: float
    writers: int
    readers: int
    spare_cpus: float

    @classmethod
    def fitting(
        cls, resources: dict[str, float], *, device: str, actors: int | None, gpus: float | None, writers: int | None
    ) -> Pools:
        """Sizes the pools: one encoder per GPU, or one per eight cores of a node, less the cores for reads and writes.

        Args:
            resources: ``CPU`` and ``GPU`` of the cluster, its ``nodes`` and ``GPU nodes``, and ``CPU a node``: no actor
                spans two.
            device: ``auto``, ``cuda`` or ``cpu``.
            actors: encoders; None for as many as fit.
            gpus: GPUs per encoder; None for one, or less if encoders share them.
            writers: writers; None for as many as fit.

        Raises:
            ConfigError: the actors do not fit the cluster, so Ray would wait forever.
        """
        found = 0.0 if device == "cpu" else resources.get("GPU", 0.0)
        if not found and (gpus or device == "cuda"):
            raise ConfigError("the Ray cluster has no GPU: leave --gpus-per-actor out, and --device at auto or cpu")
        each = gpus or (min(1.0, _floor(found / (actors or 1), 10_000)) if found else 0.0)
        nodes = int(resources.get("nodes", 1))
        of_node = resources.get("CPU a node", resources.get("CPU", 1.0))
        fit = int(found / each) if each else nodes * max(1, int(of_node / CORES_AN_ENCODER))
        encoders = actors or max(1, fit)
        if encoders * each > found:
            raise ConfigError(
                f"{encoders} encoders of {each:g} GPUs do not fit {found:g} GPUs: lower --actors or --gpus-per-actor"
            )
        spare = resources.get("CPU", 1.0) - READ_CPUS
        write = writers or max(1, min(4, 2 * encoders if each else encoders // 8, int(spare / 2 / WRITE_CPUS)))
        share = -(-encoders // (int(resources.get("GPU nodes", nodes)) if each else nodes))
        cpus = _encoder_cpus(
            (spare - WRITE_CPUS * write) / encoders if each else (of_node - READ_CPUS - WRITE_CPUS * write) / share
        )
        if cpus <= 0:
            raise ConfigError(
                f"{encoders} encoders and {write} writers do not fit the cluster's {resources.get('CPU', 1.0):g} CPUs: "
                "lower --actors or --writers"
            )
        cpus = min(cpus, GPU_CPUS) if each else cpus
        spare = max(READ_CPUS + WRITE_CPUS * write, resources.get("CPU", 1.0) - encoders * cpus)
        fit = int((spare - WRITE_CPUS * write) / READ_CPUS)
        read = max(1, min(MAX_READERS, 2 * encoders if each else encoders, fit))
        return cls(encoders=encoders, share=share, cpus=cpus, gpus=each, writers=write, readers=read, spare_cpus=spare)

    @property
    def placement(self) -> str:
        """Ray's strategy for readers and writers: the default keeps them off nodes with GPUs while others have room."""
        return "DEFAULT" if self.gpus else "SPREAD"

    def blocks_an_encoder(self, calls: int) -> int:
        """Blocks that an encoder takes at a time; one more on a GPU, which computes while another block comes back."""
        return calls + 1 if self.gpus else calls

    def blocks_a_writer(self, calls: int) -> int:
        """Blocks that a writer takes at a time: enough for every encoder's ``calls``, plus one that it writes."""
        return -(-self.encoders * self.blocks_an_encoder(calls) // self.writers) + 1

    def within(self, connections: int | None) -> Pools:
        """Returns the pools with writers and readers limited to ``connections``, less one for the driver."""
        if connections is None:
            return self
        writers = min(self.writers, connections - 2)
        return replace(self, writers=writers, readers=min(self.readers, connections - 1 - writers))


def _encoder_cpus(share: float) -> float:
    """Whole cores, or hundredths of one."""
    return _floor(share, 1 if share >= 1 else 100)


def _floor(value: float, parts: int) -> float:
    return math.floor(value * parts) / parts
