"""Encoders as Ray actors that outlive a stream: the model is loaded once for all sweeps and runs."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from vecfill.engine.coordinator import Coordination, SharedProxy
from vecfill.engine.worker_log import log_to_driver
from vecfill.job import Encode, EncodeStage, Worker

RETRIES = {"max_restarts": 2, "max_task_retries": 2}
"""By default Ray retries without end: a row that kills its process would loop. Encoding and writing are idempotent."""


LOAD_CHECK_S = 0.1
"""How often an encoder asks whether the first one of its node has loaded the model."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The work of the encoders of one run.

    Attributes:
        encode: how texts become vectors.
        share: encoders that share the cores of a node.
        gpus: GPUs that each of them reserves; less than 1 where several share one.
        coordination: the run at the coordinator.
        shared: the actor with the state that the encoders share; None if they share nothing.
    """

    encode: Encode
    share: int
    gpus: float
    coordination: Coordination
    shared: Any


@ray.remote
class EncoderActor:
    """An encode stage in a process of its own; keeps the model from one run to the next."""

    def __init__(self) -> None:
        self._run: str | None = None
        self._kept: dict[str, Any] = {}
        self._loader = ThreadPoolExecutor(1, "load")
        self._stage: EncodeStage
        self._warmed: Future[object]

    def begin(self, run: str, assignment: list[Any]) -> None:
        """Starts loading the model of a run, while rows are read; does nothing if that run has begun.

        Loads in a thread, so that the first block raises the original error.
        """
        if self._run != run:
            self._loader.submit(self._begin, run, assignment).result()

    def encode(self, run: str, assignment: list[Any], block: pa.Table) -> pa.Buffer:
        """TextBlock in, EncodedBlock out, in Arrow's format; after a restart of this process it loads the model again.

        To pickle a table itself, Ray computes with Arrow, which imports pandas: half a second of CPU, and 30 MB.
        """
        self.begin(run, assignment)
        wait((self._warmed,))  # the stage remembers its error
        return packed(self._stage(block))

    def _begin(self, run: str, assignment: list[Any]) -> None:
        if self._run == run:  # another call began it
            return
        given: Assignment = ray.get(assignment[0])
        coordination = given.coordination
        log_to_driver(coordination)
        worker = Worker(
            threads=max(1, len(os.sched_getaffinity(0)) // given.share),
            gpu_share=given.gpus if 0 < given.gpus < 1 else 1.0,
            stopped=lambda: bool(coordination.ask("is_set")),
            stop=lambda reason: coordination.ask("set", reason),
            encoded=lambda rows: coordination.tell("add_encoded", rows),
            shared=SharedProxy(given.shared, ray.get_runtime_context().get_actor_id()) if given.shared else None,
            kept=self._kept,
        )
        self._stage = given.encode.stage(worker)
        self._warmed = self._loader.submit(self._warm, coordination)
        self._run = run

    def _warm(self, coordination: Coordination) -> None:
        """Loads the model; the first encoder of a node fetches its files and proves our pass, for the others too."""
        context = ray.get_runtime_context()
        node, encoder = context.get_node_id(), context.get_actor_id()
        while not coordination.ask("may_load", node, encoder):
            time.sleep(LOAD_CHECK_S)
        try:
            self._stage.warm()
        finally:
            coordination.tell("set_loaded", node)


def packed(block: pa.Table) -> pa.Buffer:
    """Returns the block in Arrow's stream format, in a buffer of just its size."""
    size = pa.MockOutputStream()
    _write(block, size)
    buffer = pa.allocate_buffer(size.size())
    _write(block, pa.FixedSizeBufferWriter(buffer))
    return buffer


def _write(block: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, block.schema) as stream:
        stream.write_table(block)


class Encoders:
    """The encoders of a run as one callable ``TextBlock -> EncodedBlock``; the least busy one computes.

    Can be pickled: writers on any node call the same actors.
    """

    def __init__(self, actors: list[Any], assignment: Assignment) -> None:
        self._actors, self._coordination = actors, assignment.coordination
        self._run = self._coordination.run
        self._assignment = [ray.put(assignment)]

    def begin(self) -> None:
        """Makes every encoder load its model."""
        for actor in self._actors:
            actor.begin.remote(self._run, self._assignment)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Encodes a block; returns an empty one once a stop is requested."""
        number = self._coordination.ask("take_encoder", len(self._actors))
        if number is None:
            return block.slice(0, 0)
        try:
            found = ray.get(self._actors[number].encode.remote(self._run, self._assignment, block))
            return pa.ipc.open_stream(found).read_all()
        finally:
            self._coordination.tell("give_back", number)


def start_encoders(count: int, *, cpus: float, gpus: float, calls: int) -> list[Any]:
    """Starts encoder actors, each with its CPUs and GPUs; each takes ``calls`` blocks at a time."""
    options = {"num_cpus": cpus, "num_gpus": gpus, "max_concurrency": calls + 1, **RETRIES}
    return [EncoderActor.options(**options).remote() for _ in range(count)]  # type: ignore[attr-defined]  # by ray.remote


def end_actors(actors: list[Any]) -> None:
    """Ends the actors, which frees the GPUs of encoders."""
    for actor in actors:
        with contextlib.suppress(Exception):  # Ray may be gone already
            ray.kill(actor)
