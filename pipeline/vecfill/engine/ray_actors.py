"""The stages as Ray Data's actors: each keeps its connection until the stream ends."""

from __future__ import annotations

import math
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from vecfill.blocks import RESULT_SCHEMA
from vecfill.engine.coordinator import Coordination
from vecfill.engine.encoders import RETRIES
from vecfill.engine.pools import READ_CPUS, WRITE_CPUS
from vecfill.engine.threads import PAUSE_CHECK_S
from vecfill.engine.worker_log import log_to_driver
from vecfill.job import Hold, Sink, Source, Unit, Worker

FRESH_S = 0.1
"""Seconds for which a worker takes the coordinator's state for true."""

BlockCall = Callable[[pa.Table], pa.Table]


def _join(coordination: Coordination) -> None:
    """Registers this actor: if a stream fails, Ray Data leaves its idle actors alive and connected.

    As bytes: a handle names types of Ray Data, whose import would take the coordinator a second of CPU.
    """
    log_to_driver(coordination)
    coordination.ask("join", pickle.dumps(ray.get_runtime_context().current_actor))


class _State:
    """The coordinator's state, asked for at most once in ``FRESH_S``: a batch looks at it five times."""

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination
        self._found: tuple[bool, Hold] = False, Hold()
        self._asked_at = -math.inf

    def __call__(self) -> tuple[bool, Hold]:
        if time.monotonic() - self._asked_at > FRESH_S:
            self._found = self._coordination.ask("state")
            self._asked_at = time.monotonic()
        return self._found


def _worker(coordination: Coordination, state: _State, **more: Any) -> Worker:
    return Worker(
        stopped=lambda: state()[0],
        stop=lambda reason: coordination.ask("set", reason),
        hold=lambda: state()[1],
        **more,
    )


class ReadUnits:
    """The read stage in Ray Data's pool. ``ray.data.read_sql`` cannot shard on PostgreSQL.

    Read tasks of a Ray ``Datasource`` would also work, but each may run in any process: it would have to connect for
    every block, or leave connections open in idle processes.
    """

    def __init__(self, source: Source, coordination: Coordination) -> None:
        self._state = _State(coordination)
        self._read = source.reader(_worker(coordination, self._state))
        _join(coordination)

    def __call__(self, block: pa.Table) -> pa.Table:
        """A block of one unit in, a TextBlock out; waits while the run is paused, and is empty after a stop."""
        while not (stopped := self._state()[0]) and self._state()[1].paused:
            time.sleep(PAUSE_CHECK_S)
        if stopped:
            return self._read.nothing()
        return self._read(pickle.loads(block["item"][0].as_py()))  # noqa: S301 -- our own


class EncodeAndWrite:
    """One of ``peers`` writers in Ray Data's pool; calls the encoders before it writes.

    The encoded block goes from the encoder only to this process. While one block is written, others are encoded: calls
    overlap, except for their writes.
    """

    def __init__(self, encode: BlockCall, sink: Sink, peers: int, coordination: Coordination) -> None:
        state, committed = _State(coordination), partial(coordination.tell, "add_committed")
        writer = sink.writer(_worker(coordination, state, peers=peers, committed=committed))
        self._encode, self._write, self._lock = encode, writer, threading.Lock()
        self._failed = False
        self._coordination = coordination
        _join(coordination)

    def __call__(self, block: pa.Table) -> pa.Table:
        """TextBlock in, WriteResult out. Writes encoded blocks even after a stop, except rows held by a limit.

        After an error it writes no more: the run ends, and would not know whether a further block was committed.
        """
        encoded = self._encode(block)
        if encoded.num_rows == 0:
            return RESULT_SCHEMA.empty_table()
        with self._lock:
            if self._failed:
                return RESULT_SCHEMA.empty_table()
            self._coordination.ask("begin_write")
            try:
                return self._write(encoded)
            except Exception:
                self._failed = True
                raise
            finally:
                self._coordination.ask("end_write")


def read_units(
    source: Source, units: Sequence[Unit], coordination: Coordination, *, readers: int, placement: str = "SPREAD"
) -> Dataset:
    """A dataset of TextBlocks: a pool of ``readers`` over the units, one a block; ``placement`` is Ray's strategy.

    ``from_items`` puts the units into the object store by itself. ``from_arrow`` asks a task for each block's size, and
    waits for ever where the encoders hold every CPU.
    """
    pool = ActorPoolStrategy(size=min(readers, len(units)))
    items = ray.data.from_items([pickle.dumps(unit) for unit in units], override_num_blocks=len(units))
    return _mapped(items, ReadUnits, (source, coordination), cpus=READ_CPUS, compute=pool, placement=placement)


def encode_and_write(
    texts: Dataset,
    encode: BlockCall,
    sink: Sink,
    coordination: Coordination,
    *,
    writers: int,
    at_a_time: int,
    placement: str = "SPREAD",
) -> Dataset:
    """A dataset of WriteResults: a pool of ``writers``, each of which takes ``at_a_time`` blocks at a time."""
    pool = ActorPoolStrategy(
        size=writers,
        max_tasks_in_flight_per_actor=at_a_time + 1,  # one more in the queue
        max_concurrent_calls_per_actor=at_a_time,
        enable_true_multi_threading=True,
    )
    return _mapped(
        texts, EncodeAndWrite, (encode, sink, writers, coordination), cpus=WRITE_CPUS, compute=pool, placement=placement
    )


def _mapped(
    source: Dataset, actor: type, arguments: tuple[Any, ...], *, cpus: float, compute: ActorPoolStrategy, placement: str
) -> Dataset:
    """A pool of ``actor`` over whole blocks; the public ``map_batches`` accepts restart limits only with a warning."""
    return source.map_batches_internal(
        actor,
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=cpus,
        compute=compute,
        scheduling_strategy=placement,
        **RETRIES,
    )
