"""The stages on Ray Data: read tasks, an actor pool with the model, an actor pool of writers. One block in, one out."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources

from vecfill.encode.api.budget import Account
from vecfill.encode.api.terms import limits_of
from vecfill.encode.load import blocks_at_once
from vecfill.engine.actors import BudgetActor, EncodeActor, StopFlag, WriteActor
from vecfill.engine.cluster import unwrapped
from vecfill.engine.datasource import TargetDatasource
from vecfill.errors import ConfigError
from vecfill.job import Job, Stop
from vecfill.read.units import PageRange

log = logging.getLogger(__name__)

READ_CPUS, WRITE_CPUS = 0.25, 0.2
"""Reading and writing mostly wait for the server. Each differs from what the encoder asks for: Ray would fuse stages
that ask for the same, and run the read inside the encoder's actor."""

GPU_CPUS = 0.1
"""What an encoder on a GPU reserves at most: its cores are not what it waits for."""

CORES_AN_ENCODER = 8
"""Cores of a CPU encoder, where a node has more of them: it computes in at most eight teams (``encode.teams``)."""

IN_FLIGHT_BYTES = 512 << 20
"""Blocks between the stages, all together: back-pressure reaches the readers before the object store spills."""

RETRIES = {"max_restarts": 2, "max_task_retries": 2}
"""Ray's default is without end: a row that kills its process would loop. Writes are idempotent."""


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Actors by stage and what each encoder reserves.

    Attributes:
        encoders: encoders of the whole cluster.
        share: encoders on one node, which have its cores together.
        cpus: CPUs that each reserves.
        gpus: GPUs that each reserves; 0 means that the model computes on CPUs.
        writers: writers of the whole cluster.
        readers: reads at a time, each with a connection of its own; None for as many as there are CPUs for.
    """

    encoders: int
    share: int
    cpus: float
    gpus: float
    writers: int
    readers: int | None = None

    @classmethod
    def fitting(
        cls, resources: dict[str, float], *, device: str, actors: int | None, gpus: float | None, writers: int | None
    ) -> Pools:
        """Sizes the pools: an encoder a GPU, or one for eight cores of a node, less what the rest needs.

        Args:
            resources: ``CPU`` and ``GPU`` of the cluster, its ``nodes``, and ``CPU a node``: no actor spans two.
            device: ``auto``, ``cuda`` or ``cpu``.
            actors: encoders, None for what fits.
            gpus: GPUs an encoder, None for one, or less where encoders share them.
            writers: writers, None for what fits.

        Raises:
            ConfigError: what is asked for does not fit: Ray would wait for ever.
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
        share = -(-encoders // nodes)
        cpus = _encoder_cpus(
            (spare - WRITE_CPUS * write) / encoders if each else (of_node - READ_CPUS - WRITE_CPUS * write) / share
        )
        if cpus <= 0:
            raise ConfigError(
                f"{encoders} encoders and {write} writers do not fit the cluster's {resources.get('CPU', 1.0):g} CPUs: "
                "lower --actors or --writers"
            )
        return cls(encoders=encoders, share=share, cpus=min(cpus, GPU_CPUS) if each else cpus, gpus=each, writers=write)

    def within(self, connections: int | None) -> Pools:
        """The same pools with writers and readers that hold fewer than so many connections: one is the driver's."""
        if connections is None:
            return self
        writers = min(self.writers, connections - 2)
        return replace(self, writers=writers, readers=connections - 1 - writers)


def _encoder_cpus(share: float) -> float:
    """Whole cores, or hundredths of one; never what a read asks for, or Ray would fuse the two."""
    cpus = _floor(share, 1 if share >= 1 else 100)
    return cpus if cpus != READ_CPUS else cpus - 0.01


def _floor(value: float, parts: int) -> float:
    return math.floor(value * parts) / parts


class RayEngine:
    """Runs the stages of a job on the Ray cluster that this process has joined."""

    name = "ray"

    def __init__(self, job: Job, pools: Pools) -> None:
        self._job, self._pools = job, pools
        model = job.encode.model
        self._ledger = BudgetActor.remote(limits_of(model)) if model.is_api else None

    @property
    def workers(self) -> dict[str, int]:
        """Actors by stage; read tasks run as many as fit, so they count as one."""
        return {"read": 1, "encode": self._pools.encoders, "write": self._pools.writers}

    def account(self) -> Account | None:
        """See ``Engine``."""
        return ray.get(self._ledger.account.remote()) if self._ledger else None

    def stream(self, ranges: Sequence[PageRange], stop: Stop) -> Iterator[pa.Table]:
        """See ``Engine``. An error of a stage is raised here as it was, where it is ours."""
        flag = StopFlag.remote()  # type: ignore[attr-defined]  # made by ray.remote
        with unwrapped(), _relayed(stop, flag):
            yield from self.plan(ranges, flag).iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
            if reason := ray.get(flag.reason.remote()):
                stop.set(reason)

    def plan(self, ranges: Sequence[PageRange], flag: Any) -> Dataset:
        """The flow: read -> EncodeActor -> WriteActor, none fused."""
        context = DataContext.get_current()
        context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=IN_FLIGHT_BYTES)
        if self._job.write_limits.may_wait:
            context.execution_no_progress_timeout_s = -1  # a write that waits is no stall, which ends a run at 30 min
        source = ray.data.read_datasource(
            TargetDatasource(self._job, ranges, flag),
            override_num_blocks=len(ranges),
            num_cpus=READ_CPUS,
            concurrency=self._pools.readers,
        )
        return self._write(self._encode(source, flag), flag)

    def _encode(self, source: Dataset, flag: Any) -> Dataset:
        pools, calls = self._pools, blocks_at_once(self._job.encode.model)
        return _mapped(
            source,
            EncodeActor,
            (self._job.encode, pools.share, flag, self._ledger),
            compute=ActorPoolStrategy(
                size=pools.encoders,
                max_tasks_in_flight_per_actor=calls + 1,  # one more waits at the door
                max_concurrent_calls_per_actor=calls,
                enable_true_multi_threading=True,
            ),
            num_cpus=pools.cpus,
            num_gpus=pools.gpus or None,
        )

    def _write(self, source: Dataset, flag: Any) -> Dataset:
        writers = self._pools.writers
        pool = ActorPoolStrategy(size=writers)
        return _mapped(source, WriteActor, (self._job, writers, flag), compute=pool, num_cpus=WRITE_CPUS)

    def close(self) -> None:
        """Nothing is held: Ray ends the actors with each stream."""


def _mapped(source: Dataset, actor: type, arguments: tuple[Any, ...], **resources: Any) -> Dataset:
    """A pool of ``actor`` over whole blocks.

    By ``map_batches_internal``: the public call takes GPUs only with a batch size, which would cut or join blocks, and
    Ray's restart limits only with a warning.
    """
    return source.map_batches_internal(
        actor, fn_constructor_args=arguments, batch_size=None, batch_format="pyarrow", **resources, **RETRIES
    )


@contextlib.contextmanager
def _relayed(stop: Stop, flag: Any) -> Iterator[None]:
    """Passes a stop on to the actors, from a thread of its own: a signal handler must not call Ray.

    And the writers' words to the log.
    """
    done = threading.Event()

    def hear() -> None:
        for line in ray.get(flag.heard.remote()):
            log.warning("%s", line)

    def relay() -> None:
        while not done.is_set() and not stop.wait(0.2):
            hear()
        if stop.is_set():
            ray.get(flag.set.remote(stop.reason))
        done.wait()
        hear()

    thread = threading.Thread(target=relay, name="stop-relay", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
