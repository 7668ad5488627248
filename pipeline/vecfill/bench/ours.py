"""Our own contenders: both engines from PostgreSQL to PostgreSQL, and single stages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from vecfill.bench.measure import Mark, Measured
from vecfill.bench.padding import Padding, padding_counted
from vecfill.bench.watch import Spans, WatchedEncode, WatchedRead, WatchedWrite
from vecfill.blocks import OUTCOMES
from vecfill.engine.choice import most_block_rows
from vecfill.errors import VecfillError
from vecfill.job import Engine, Job, Stop
from vecfill.read.survey import survey
from vecfill.read.units import Bucket, PageRange, plan_units

STAGES = ("read", "encode", "write")


LEAST_BLOCKS = 4
"""Blocks of a measurement: a warm rate leaves the first out. Smaller blocks than a run's, where there are few rows."""


def ranges_of(job: Job, engine: str) -> list[PageRange]:
    """What ``vecfill run --engine`` would read, block by block; at least ``LEAST_BLOCKS`` where the pages allow it."""
    with closing(job.database.connect()) as connection:
        buckets = survey(connection, job.relation).buckets
    ranges = plan_units(buckets, most_rows=most_block_rows(job.encode.model, engine))
    return ranges if len(ranges) >= LEAST_BLOCKS else evenly(buckets, LEAST_BLOCKS)


def evenly(buckets: Sequence[Bucket], blocks: int) -> list[PageRange]:
    """Cuts a table of one leaf into as many ranges of about as many rows, where it has as many buckets. Pure."""
    ordered = sorted(buckets, key=lambda bucket: bucket.first_page)
    total, done = sum(bucket.rows for bucket in ordered), 0
    parts: list[list[Bucket]] = [[] for _ in range(blocks)]
    for bucket in ordered:
        parts[min(blocks - 1, done * blocks // total)].append(bucket)
        done += bucket.rows
    kept = [part for part in parts if part]
    ends = [part[0].first_page for part in kept[1:]] + [None] * bool(kept)
    return [
        PageRange(leaf=0, first_page=part[0].first_page, end_page=end, rows=sum(bucket.rows for bucket in part))
        for part, end in zip(kept, ends, strict=True)
    ]


def blocks_of(job: Job) -> list[pa.Table]:
    """Every TextBlock of the job's target."""
    with closing(Read(job.database, job.relation)) as read:
        return [read(pages) for pages in ranges_of(job, "ray")]


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What the encoder says of the texts: their tokens before truncation, and how many it cut."""

    tokens: int
    truncated: int


def timed_stream(engine: Engine, ranges: Sequence[PageRange]) -> tuple[Measured, Texts]:
    """Runs the ranges through an engine, with a mark a block.

    Raises:
        VecfillError: a row was left without a vector: what was measured is not the work.
    """
    start = time.perf_counter()
    marks: list[Mark] = []
    results: list[pa.Table] = []
    for result in engine.stream(ranges, Stop()):
        results.append(result)
        marks.append((time.perf_counter() - start, _rows(result)))
    seconds = time.perf_counter() - start
    everything = pa.concat_tables(results)
    if sum(everything["updated"].to_pylist()) != sum(rows for _, rows in marks):
        raise VecfillError(_told_missing(everything))
    stages = {stage: sum(everything[f"{stage}_s"].to_pylist()) for stage in STAGES}
    texts = Texts(**{name: sum(everything[name].to_pylist()) for name in ("tokens", "truncated")})
    return Measured(seconds=seconds, marks=tuple(marks), stages=stages), texts


def _told_missing(results: pa.Table) -> str:
    """How many rows have no vector, and why the first has none."""
    first = next(one for rows in results["unwritten"].to_pylist() for one in rows)
    rows = _rows(results)
    return (
        f"{rows - sum(results['updated'].to_pylist()):,} of {rows:,} rows got no vector, the first: "
        f"{first['error'] or first['outcome']}: leave such rows out by --where, so that all can be measured"
    )


def _rows(result: pa.Table) -> int:
    return int(sum(sum(result[outcome].to_pylist()) for outcome in OUTCOMES))


@dataclass(kw_only=True)
class Inline:
    """The in-process engine; the model stays loaded between measurements.

    Attributes:
        fresh: begin each measurement with nothing remembered, for texts that repeat.
    """

    job: Job
    fresh: bool = False
    _spans: Spans = field(default_factory=Spans, repr=False)
    _engine: Any = field(default=None, repr=False)
    _encode: Any = field(default=None, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Loads the model and fills two blocks: over the first it looks for the best size of a batch."""
        self._open()
        encoder = self._encode.warm()
        loaded = time.monotonic()
        shares = [share for share in (self._padding_of_a_block(), self._padding_of_a_block()) if share is not None]
        padding = shares[-1] if shares else None
        return {"loaded": loaded, "dtype": encoder.dtype, "device": encoder.device, "padding": padding}

    def measure(self) -> Measured:
        """Fills the table."""
        if self.fresh:
            self.close()
            self._open()
            self._encode.warm()
        ranges = ranges_of(self.job, "inline")
        self._spans.restart()
        measured, _ = timed_stream(self._engine, ranges)
        return Measured(
            seconds=measured.seconds, marks=measured.marks, stages=measured.stages, spans=self._spans.found()
        )

    def close(self) -> None:
        """Closes the engine's connections."""
        if self._engine is not None:
            self._engine.close()

    def _padding_of_a_block(self) -> float | None:
        """Fills a block, where any is left, and says how much of it was padding."""
        padding = Padding()
        if ranges := ranges_of(self.job, "inline")[:1]:
            with padding_counted(padding, self.job.encode.model.name):
                timed_stream(self._engine, ranges)
        return padding.share

    def _stage(self) -> WatchedEncode:
        return WatchedEncode(self.job.encode, self._spans)

    def _open(self) -> None:
        from vecfill.engine.inline import InlineEngine

        place = self.job.database, self.job.relation
        self._encode = self._stage()
        self._engine = InlineEngine(WatchedRead(*place, self._spans), self._encode, WatchedWrite(*place, self._spans))


@dataclass(kw_only=True)
class OnRay:
    """The Ray engine on a cluster of its own, started for each measurement as ``vecfill run`` does."""

    job: Job

    def prepare(self) -> dict[str, Any]:
        """Nothing yet: the cluster's start belongs to the measurement's start-up."""
        return {}

    def measure(self) -> Measured:
        """Starts Ray and fills the table."""
        from vecfill.engine.cluster import cluster

        ranges = ranges_of(self.job, "ray")
        begun = time.perf_counter()
        with cluster(None, verbose=False) as resources:
            from vecfill.engine.ray import Pools, RayEngine

            pools = Pools.fitting(resources, device=self.job.encode.model.device, actors=None, gpus=None, writers=None)
            with closing(RayEngine(self.job, pools)) as engine:
                started = time.perf_counter() - begun
                measured, _ = timed_stream(engine, ranges)
        return Measured(seconds=measured.seconds, marks=measured.marks, stages=measured.stages, started=started)

    def close(self) -> None:
        """Ray ended with the measurement."""


@dataclass(kw_only=True)
class EncoderAlone:
    """The encode stage over blocks that were read before."""

    job: Job
    _blocks: list[pa.Table] = field(default_factory=list, repr=False)
    _encode: Any = field(default=None, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Reads the blocks, loads the model and encodes the first, over which it looks for the best size of a batch."""
        self._blocks, self._encode = blocks_of(self.job), Encode(self.job.encode)
        encoder = self._encode.warm()
        loaded = time.monotonic()
        self._encode(self._blocks[0])
        padding = Padding()
        with padding_counted(padding, self.job.encode.model.name):
            self._encode(self._blocks[-1])
        return {"loaded": loaded, "dtype": encoder.dtype, "device": encoder.device, "padding": padding.share}

    def measure(self) -> Measured:
        """Encodes block after block."""
        return timed_blocks("encode", self._encode, self._blocks)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(kw_only=True)
class WriterAlone:
    """The write stage over blocks that were encoded before."""

    job: Job
    _blocks: list[pa.Table] = field(default_factory=list, repr=False)
    _write: Any = field(default=None, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Reads and encodes the blocks, and writes the first."""
        encode = Encode(self.job.encode)
        self._blocks = [encode(block) for block in blocks_of(self.job)]
        self._write = Write(self.job.database, self.job.relation)
        self._write(self._blocks[0])
        return {}

    def measure(self) -> Measured:
        """Writes block after block."""
        return timed_blocks("write", self._write, self._blocks)

    def close(self) -> None:
        """Closes the connection."""
        if self._write is not None:
            self._write.close()


def timed_blocks(stage: str, work: Any, blocks: Iterable[pa.Table]) -> Measured:
    """Calls a stage with block after block, with a mark a block."""
    start = time.perf_counter()
    marks: list[Mark] = []
    for block in blocks:
        work(block)
        marks.append((time.perf_counter() - start, block.num_rows))
    seconds = time.perf_counter() - start
    return Measured(seconds=seconds, marks=tuple(marks), stages={stage: seconds})
