"""The stages as Ray Data's actors: each keeps its connection for as long as the stream lasts."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray

from vecfill.blocks import RESULT_SCHEMA
from vecfill.engine.encoders import Encoders
from vecfill.engine.worker_log import log_to_stderr
from vecfill.job import Reader, Sink, Unit, Worker


def unit_blocks(units: Sequence[Unit]) -> list[pa.Table]:
    """Units as Ray Data's input: a block of one row for each."""
    return [pa.table({"unit": pa.array([pickle.dumps(unit)], pa.large_binary())}) for unit in units]


def _join(coordinator: Any) -> None:
    """Names this actor to the coordinator: where a stream fails, Ray Data leaves its idle actors alive, connected."""
    log_to_stderr()
    ray.get(coordinator.join.remote(ray.get_runtime_context().current_actor))


class ReadUnits:
    """The read stage in Ray Data's pool. ``ray.data.read_sql`` cannot shard on PostgreSQL.

    Read tasks of a Ray ``Datasource`` would do as well, but each runs in any process: a connection would have to be
    made anew for every block, or stay open in processes that wait for another task.
    """

    def __init__(self, reader: Reader, coordinator: Any) -> None:
        self._read, self._coordinator = reader, coordinator
        _join(coordinator)

    def __call__(self, block: pa.Table) -> pa.Table:
        """A block of ``unit_blocks`` in, a TextBlock out; an empty one once the stop is asked for."""
        if ray.get(self._coordinator.is_set.remote()):
            return self._read.nothing()
        return self._read(pickle.loads(block["unit"][0].as_py()))  # noqa: S301 -- our own


class EncodeAndWrite:
    """A writer of ``peers``, with the encoders before it; in Ray Data's pool.

    The encoded block goes from the encoder to this process and no further. While one block is written, others are
    encoded: calls overlap, all but their writes.
    """

    def __init__(self, encoders: Encoders, sink: Sink, peers: int, coordinator: Any) -> None:
        worker = Worker(
            peers=peers, stopped=lambda: bool(ray.get(coordinator.is_set.remote())), say=coordinator.say.remote
        )
        self._encoders, self._write, self._lock = encoders, sink.writer(worker), threading.Lock()
        _join(coordinator)

    def __call__(self, block: pa.Table) -> pa.Table:
        """TextBlock in, WriteResult out. What was encoded is written, stop or not, but for what a limit holds back."""
        encoded = self._encoders(block)
        if encoded.num_rows == 0:
            return RESULT_SCHEMA.empty_table()
        with self._lock:
            return self._write(encoded)
