"""The stages in this process, in threads: reading, encoding and writing wait for different things.

For runs that are over before Ray would have started (3 to 8 s on two cores, and 6 to 15 s for the first actor).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from vecfill.encode.api.budget import Account
from vecfill.encode.load import blocks_at_once
from vecfill.encode.stage import Encode
from vecfill.job import BROKEN_OFF, BUDGET, Stop
from vecfill.read.reader import Read
from vecfill.read.units import PageRange
from vecfill.write.writer import Write

OTHERS = 3
"""Blocks in flight beside those in the encoder: one that is read, one that is written, and one that waits for the
model, so that it never waits for the server."""

Block = Future[pa.Table | None]


class InlineEngine:
    """Runs the stages of a job in threads of this process."""

    name = "inline"

    def __init__(self, read: Read, encode: Encode, write: Write) -> None:
        """Takes the stages as they are, so that a benchmark or a test can watch them at work."""
        self._read, self._encode, self._write = read, encode, write

    @property
    def workers(self) -> dict[str, int]:
        """One of a stage: what a second encode thread does is not counted twice."""
        return {"read": 1, "encode": 1, "write": 1}

    def account(self) -> Account | None:
        """See ``Engine``."""
        return self._encode.account()

    def stream(self, ranges: Sequence[PageRange], stop: Stop) -> Iterator[pa.Table]:
        """See ``Engine``. An error of any stage is raised here, as it was."""
        calls = blocks_at_once(self._encode.spec.model)
        self._encode.stopped = stop.is_set
        with (
            ThreadPoolExecutor(1, "read") as read,
            ThreadPoolExecutor(calls, "encode") as encode,
            ThreadPoolExecutor(1, "write") as write,
        ):
            encode.submit(self._encode.warm)
            self._write.throttle.stopped = stop.is_set
            flight: deque[Block] = deque()
            whole = False
            try:
                for pages in ranges:
                    text = read.submit(self._text, pages, stop)
                    vectors = encode.submit(self._vectors, text, stop)
                    flight.append(write.submit(self._result, vectors))
                    if len(flight) >= calls + OTHERS:
                        yield from _done(flight.popleft())
                while flight:
                    yield from _done(flight.popleft())
                whole = True
            finally:
                if not whole:  # an error, or a second signal: what is under way sends nothing more to an API
                    stop.set(BROKEN_OFF)
                for block in flight:
                    block.cancel()
                for pool in (read, encode, write):
                    pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Closes both connections."""
        self._read.close()
        self._write.close()

    def _text(self, pages: PageRange, stop: Stop) -> pa.Table | None:
        return None if stop.is_set() else self._read(pages)

    def _vectors(self, text: Block, stop: Stop) -> pa.Table | None:
        table = text.result()
        if table is None or stop.is_set():
            return None
        vectors = self._encode(table)
        if self._encode.over_budget:
            stop.set(BUDGET)
        return vectors

    def _result(self, vectors: Block) -> pa.Table | None:
        table = vectors.result()
        return None if table is None else self._write(table)


def _done(block: Block) -> Iterator[pa.Table]:
    table = block.result()
    if table is not None:
        yield table
