"""The engine on Ray: Ray Data's pools of readers and writers, and encoder actors that outlive a stream."""

from __future__ import annotations

import contextlib
import logging
import pickle
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset, ExecutionResources

from vecfill.engine.cluster import unwrapped
from vecfill.engine.coordinator import Coordination, SharedActor
from vecfill.engine.encoders import Assignment, Encoders
from vecfill.engine.pools import Pools
from vecfill.engine.ray_actors import encode_and_write, read_units
from vecfill.engine.threads import Stages, stream
from vecfill.job import Job, Stop, Unit, Worker

IN_FLIGHT_BYTES = 512 << 20
"""Total size of the blocks between the stages: back-pressure reaches the readers before the object store spills."""

RELAY_EVERY_S = 0.2
"""How often this process and the coordinator tell each other what is new."""


class RayEngine:
    """Runs the stages of a job on the Ray cluster that this process has joined."""

    name = "ray"

    def __init__(self, job: Job, pools: Pools, actors: list[Any], coordination: Coordination) -> None:
        """Makes the encoders load the model.

        Args:
            job: what to run.
            pools: workers of each stage.
            actors: of ``encoders.start_encoders``, ``pools.encoders`` of them; they are left running.
            coordination: the run at the coordinator, which is left running.
        """
        self._job, self._pools = job, pools
        shared = job.encode.shared()
        self._shared = SharedActor.remote(shared) if shared else None  # type: ignore[attr-defined]  # by ray.remote
        self._coordination = coordination
        assignment = Assignment(
            encode=job.encode, share=pools.share, gpus=pools.gpus, coordination=coordination, shared=self._shared
        )
        self._encoders = Encoders(actors, assignment)
        self._encoders.begin()
        self._streamed, self._reached = False, (0, 0)

    @property
    def workers(self) -> dict[str, int]:
        """Workers by stage."""
        return {"read": self._pools.readers, "encode": self._pools.encoders, "write": self._pools.writers}

    def account(self) -> Any:
        """See ``Engine``."""
        return ray.get(self._shared.call.remote("account")) if self._shared else None

    def committed(self) -> tuple[int, bool]:
        """See ``Engine``."""
        found: tuple[int, bool] = self._coordination.ask("committed")
        return found

    @property
    def reached(self) -> tuple[int, int]:
        """See ``Engine``."""
        return self._reached

    def stream(self, units: Sequence[Unit], stop: Stop) -> Iterator[pa.Table]:
        """See ``Engine``. Raises the original error of a stage if it is ours.

        This process reads and writes a later stream of few units itself: Ray Data takes a second or two to start.
        """
        if not units or stop.is_set():
            return
        few, self._streamed = self._streamed and len(units) <= self._pools.encoders, True
        with unwrapped(), self._relayed(stop):
            yield from self._directly(units, stop) if few else self._by_ray_data(units)
            if reason := self._coordination.ask("reason"):
                stop.set(reason)

    def _by_ray_data(self, units: Sequence[Unit]) -> Iterator[pa.Table]:
        self._job.source.close()
        try:
            yield from self.plan(units).iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        except Exception:
            for actor in self._coordination.ask("members"):
                ray.kill(pickle.loads(actor))  # noqa: S301 -- our own
            raise

    def _directly(self, units: Sequence[Unit], stop: Stop) -> Iterator[pa.Table]:
        abandoned = threading.Event()
        worker = Worker(
            stopped=lambda: stop.is_set() or abandoned.is_set(),
            stop=stop.set,
            hold=lambda: stop.hold,
            committed=partial(self._coordination.tell, "add_committed"),
        )
        reader = self._job.source.reader(worker)
        with contextlib.closing(self._job.sink.writer(worker)) as writer:
            stages = Stages(read=reader, encode=self._encoders, write=writer, calls=1)
            yield from stream(stages, units, stop, abandon=abandoned.set)

    def plan(self, units: Sequence[Unit]) -> Dataset:
        """The flow: ReadUnits -> EncodeAndWrite; Ray does not fuse pools of actors."""
        context, pools = DataContext.get_current(), self._pools
        context.execution_options.resource_limits = ExecutionResources.for_limits(
            cpu=pools.spare_cpus, object_store_memory=IN_FLIGHT_BYTES
        )
        if self._job.sink.may_wait:
            context.execution_no_progress_timeout_s = -1  # Ray ends a stalled run after 30 min; waiting is no stall
        texts = read_units(
            self._job.source, units, self._coordination, readers=pools.readers, placement=pools.placement
        )
        return encode_and_write(
            texts,
            self._encoders,
            self._job.sink,
            self._coordination,
            writers=pools.writers,
            at_a_time=pools.blocks_a_writer(self._job.encode.calls),
            placement=pools.placement,
        )

    def retarget(self, job: Job) -> None:
        """See ``Engine``."""
        self._job = job

    def close(self) -> None:
        """Ends the actors of this run, and closes this process's connection; the encoders keep running."""
        self._job.source.close()
        self._coordination.end()
        if self._shared:
            ray.kill(self._shared)

    @contextlib.contextmanager
    def _relayed(self, stop: Stop) -> Iterator[None]:
        """Passes a stop and what holds the run back on to the workers, and takes their log and their counts of rows.

        Runs in its own thread: a signal handler must not call Ray.
        """
        done = threading.Event()
        hold = stop.hold
        self._coordination.ask("set_hold", hold)  # before the first worker asks

        def relay() -> None:
            nonlocal hold
            ended = False
            while not ended:
                ended = done.wait(RELAY_EVERY_S)
                if stop.is_set():
                    self._coordination.ask("set", stop.reason)
                if hold != (hold := stop.hold):
                    self._coordination.ask("set_hold", hold)
                self._take_news()

        with ThreadPoolExecutor(1, "stop-relay") as threads:
            relayed = threads.submit(relay)
            try:
                yield
            finally:
                done.set()
            relayed.result()

    def _take_news(self) -> None:
        records, self._reached = self._coordination.ask("news")
        for record in records:
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
