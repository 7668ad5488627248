"""Our own contenders: both engines from PostgreSQL to PostgreSQL, and single stages."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from vecfill.bench import ours
from vecfill.bench.measure import Mark, Measured
from vecfill.bench.ours import STAGES, Results, Work, ranges_of, rows_of
from vecfill.bench.watch import Spans, padding_counted
from vecfill.bench.worker import Runner
from vecfill.errors import VecfillError


def timed_stream(results: Iterable[pa.Table], **more: Any) -> Measured:
    """Takes an engine's WriteResults, with a mark a block; ``more`` are attributes of the measurement.

    Raises:
        VecfillError: a row got no vector, so that the measurement is not of the whole work.
    """
    start = time.perf_counter()
    marks: list[Mark] = []
    found: list[pa.Table] = []
    for result in results:
        found.append(result)
        marks.append((time.perf_counter() - start, rows_of(result)))
    seconds = time.perf_counter() - start
    everything = pa.concat_tables(found)

    def total(column: str) -> Any:
        return sum(everything[column].to_pylist())

    if total("updated") != sum(rows for _, rows in marks):
        raise VecfillError(_missing(everything))
    stages = {stage: total(f"{stage}_s") for stage in STAGES}
    texts = {name: total(name) for name in ("tokens", "truncated")}
    return Measured(seconds=seconds, marks=tuple(marks), stages=stages, **texts, **more)


def _missing(results: pa.Table) -> str:
    """How many rows have no vector, and why the first has none."""
    first = next(one for rows in results["unwritten"].to_pylist() for one in rows)
    rows = rows_of(results)
    return (
        f"{rows - sum(results['updated'].to_pylist()):,} of {rows:,} rows got no vector, the first: "
        f"{first['error'] or first['outcome']}: leave such rows out by --where, so that all can be measured"
    )


def warmed(encode: Any) -> tuple[Any, dict[str, Any]]:
    """Loads a stage's model; returns it and its facts for the report."""
    encoder = encode.warm()
    facts = {"dtype": encoder.dtype, "device": encoder.device, "way": encoder.way}
    return encoder, {"loaded": time.monotonic(), **facts}


def _padding(facts: dict[str, Any], counted: float | None) -> float | None:
    """Our own pass computes no padding; of the library's it was counted."""
    return 0.0 if facts["way"].startswith("native") else counted


@dataclass(kw_only=True)
class Inline(Runner):
    """The in-process engine; the model stays loaded between measurements.

    Attributes:
        fresh: begin each measurement with nothing remembered, for texts that repeat; its rate is then ``whole``.
    """

    work: Work
    fresh: bool = False
    _spans: Spans = field(default_factory=Spans, repr=False)
    _engine: Any = field(default=None, repr=False)
    _encode: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.whole = self.fresh

    def prepare(self) -> dict[str, Any]:
        """Loads the model and fills two blocks; over the first the encoder searches its best batch size."""
        self._open()
        _, facts = warmed(self._encode)
        shares = [share for share in (self._padding_of_a_block(), self._padding_of_a_block()) if share is not None]
        return {**facts, "padding": _padding(facts, shares[-1] if shares else None)}

    def measure(self) -> Measured:
        """Fills the table."""
        if self.fresh:
            self.close()
            self._open()
            self._encode.warm()
        return self._fill(ranges_of(self.work, "inline"))

    def close(self) -> None:
        """Closes the engine's connections."""
        if self._engine is not None:
            self._engine.close()

    def _fill(self, ranges: Any) -> Measured:
        self._spans.restart()
        spans: dict[str, Any] = {}
        found = timed_stream(ours.results_of(self._engine, ranges), spans=spans)
        spans.update(self._spans.found())
        return found

    def _padding_of_a_block(self) -> float | None:
        """Fills a block, if any is left, and returns how much of it was padding."""
        with padding_counted(self.work.model.name) as padding:
            if ranges := ranges_of(self.work, "inline")[:1]:
                self._fill(ranges)
        return padding.share

    def _open(self) -> None:
        self._engine, self._encode = ours.inline_engine(self.work, self._spans)


@dataclass(kw_only=True)
class OnRay(Runner):
    """The Ray engine on a cluster of its own, started for each measurement as ``vecfill run`` does."""

    ray = True
    work: Work

    def measure(self) -> Measured:
        """Starts Ray and fills the table."""
        return filled_on_ray(self.work, ours.ray_engine(self.work))


def filled_on_ray(work: Work, engine: AbstractContextManager[Results]) -> Measured:
    """Starts an engine on Ray, timed separately, and fills the table through it."""
    ranges, begun = ranges_of(work, "ray"), time.perf_counter()
    with engine as results:
        return timed_stream(results(ranges), started=time.perf_counter() - begun)


@dataclass(kw_only=True)
class EncoderAlone(Runner):
    """The encode stage over blocks that were read before."""

    writes = False
    work: Work
    _blocks: list[pa.Table] = field(default_factory=list, repr=False)
    _encode: Any = field(default=None, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Reads the blocks, loads the model and encodes the first, over which it searches its best batch size."""
        self._blocks, self._encode = ours.text_blocks(self.work), ours.encode_stage(self.work)
        _, facts = warmed(self._encode)
        self._encode(self._blocks[0])
        with padding_counted(self.work.model.name) as padding:
            self._encode(self._blocks[-1])
        return {**facts, "padding": _padding(facts, padding.share)}

    def measure(self) -> Measured:
        """Encodes block after block."""
        start = time.perf_counter()
        marks = _timed(self._encode, self._blocks, start)
        seconds = time.perf_counter() - start
        return Measured(seconds=seconds, marks=tuple(marks), stages={"encode": seconds})


@dataclass(kw_only=True)
class WriterAlone(Runner):
    """The write stage over blocks that were encoded before, dealt out to writers with a connection and a thread each.

    Attributes:
        batch: rows of a block; None for those of a run.
        writers: how many.
    """

    work: Work
    batch: int | None = None
    writers: int = 1
    _blocks: list[pa.Table] = field(default_factory=list, repr=False)
    _stages: list[Any] = field(default_factory=list, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Reads and encodes the blocks; each writer writes one."""
        self._blocks = ours.encoded_blocks(self.work, self.batch)
        self._stages = [ours.write_stage(self.work) for _ in range(self.writers)]
        for write, block in zip(self._stages, self._blocks, strict=False):
            write(block)
        return {}

    def measure(self) -> Measured:
        """Writes every block; the server has accounted for each row when it returns."""
        start = time.perf_counter()
        with ThreadPoolExecutor(self.writers, "write") as pool:
            shares = [self._blocks[n :: self.writers] for n in range(self.writers)]
            found = list(pool.map(lambda write, share: _timed(write, share, start), self._stages, shares))
        seconds = time.perf_counter() - start
        marks = sorted(mark for marks in found for mark in marks)
        return Measured(seconds=seconds, marks=tuple(marks), stages={"write": seconds})

    def close(self) -> None:
        """Closes the connections."""
        for write in self._stages:
            write.close()


def _timed(stage: Any, blocks: Iterable[pa.Table], start: float) -> list[Mark]:
    """Calls a stage with block after block; returns a mark a block, in seconds since ``start``."""
    marks = []
    for block in blocks:
        stage(block)
        marks.append((time.perf_counter() - start, block.num_rows))
    return marks
