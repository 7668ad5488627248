"""Blocks through three stages in threads of this process: reading, encoding and writing wait for different things."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vecfill.job import Stop, Unit
from vecfill.log_fields import in_context

OTHERS = 3
"""Blocks in flight outside the encoder: one being read, one being written, and one waiting for the model, so that the
model never waits for the server."""

PAUSE_CHECK_S = 0.1
"""How often a paused reader checks whether the pause is over."""

Block = Future[pa.Table | None]


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Three stages; ``calls`` is how many blocks the encode stage takes at a time."""

    read: Callable[[Any], pa.Table]
    encode: Callable[[pa.Table], pa.Table]
    write: Callable[[pa.Table], pa.Table]
    calls: int


def stream(stages: Stages, units: Sequence[Unit], stop: Stop, *, abandon: Callable[[], object]) -> Iterator[pa.Table]:
    """Yields the result of each unit, in order; once ``stop`` is set, finishes the blocks in flight and ends.

    Calls ``abandon`` if it ends early: the calls in flight should stop, and it waits for them.

    Raises the original error of any stage.
    """
    with (
        ThreadPoolExecutor(1, "read") as read,
        ThreadPoolExecutor(stages.calls, "encode") as encode,
        ThreadPoolExecutor(1, "write") as write,
        closing(_Flight(abandon, (read, encode, write))) as flight,
    ):
        for unit in units:
            text = read.submit(in_context(_text), stages, unit, stop, flight)
            vectors = encode.submit(in_context(_vectors), stages, text, stop)
            flight.blocks.append(write.submit(in_context(_result), stages, vectors))
            if len(flight.blocks) >= stages.calls + OTHERS:
                yield from _done(flight.blocks.popleft())
        while flight.blocks:
            yield from _done(flight.blocks.popleft())
        flight.whole = True


class _Flight:
    """Blocks in flight; if the stream ends early, those that no thread has started are cancelled."""

    def __init__(self, abandon: Callable[[], object], pools: Sequence[ThreadPoolExecutor]) -> None:
        self.blocks: deque[Block] = deque()
        self.whole = self.abandoned = False
        self._abandon, self._pools = abandon, pools

    def close(self) -> None:
        self.abandoned = not self.whole
        if self.abandoned:  # an error, or a second signal: calls in flight send nothing more to an API
            self._abandon()
        for block in self.blocks:
            block.cancel()
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)


def _text(stages: Stages, unit: Unit, stop: Stop, flight: _Flight) -> pa.Table | None:
    """Reads a block once the run is not paused."""
    while stop.hold.paused and not flight.abandoned and not stop.is_set():
        time.sleep(PAUSE_CHECK_S)
    return None if stop.is_set() or flight.abandoned else stages.read(unit)


def _vectors(stages: Stages, text: Block, stop: Stop) -> pa.Table | None:
    table = text.result()
    return None if table is None or stop.is_set() else stages.encode(table)


def _result(stages: Stages, vectors: Block) -> pa.Table | None:
    table = vectors.result()
    return None if table is None or table.num_rows == 0 else stages.write(table)


def _done(block: Block) -> Iterator[pa.Table]:
    table = block.result()
    if table is not None:
        yield table
