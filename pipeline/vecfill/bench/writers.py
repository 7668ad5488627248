"""The write stage itself, by one writer or by several, each with a connection and a thread of its own."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from vecfill.bench.batches import encoded
from vecfill.bench.measure import Mark, Measured
from vecfill.job import Job


@dataclass(kw_only=True)
class Writers:
    """``writers`` of the write stage over blocks of ``batch`` rows, dealt out in turn."""

    job: Job
    batch: int
    writers: int = 1
    _blocks: list[pa.Table] = field(default_factory=list, repr=False)
    _stages: list[Write] = field(default_factory=list, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Reads and encodes the blocks, and has each writer write one."""
        self._blocks = encoded(self.job, self.batch)
        self._stages = [Write(self.job.database, self.job.relation) for _ in range(self.writers)]
        for write, block in zip(self._stages, self._blocks, strict=False):
            write(block)
        return {}

    def measure(self) -> Measured:
        """Writes every block; the server has accounted for each row when it returns."""
        start = time.perf_counter()
        with ThreadPoolExecutor(self.writers, "write") as pool:
            shares = [self._blocks[n :: self.writers] for n in range(self.writers)]
            found = list(pool.map(lambda write, share: _written(write, share, start), self._stages, shares))
        seconds = time.perf_counter() - start
        marks = sorted(mark for marks in found for mark in marks)
        return Measured(seconds=seconds, marks=tuple(marks), stages={"write": seconds})

    def close(self) -> None:
        """Closes the connections."""
        for write in self._stages:
            write.close()


def _written(write: Write, blocks: list[pa.Table], start: float) -> list[Mark]:
    marks = []
    for block in blocks:
        updated = sum(write(block)["updated"].to_pylist())
        marks.append((time.perf_counter() - start, updated))
    return marks
