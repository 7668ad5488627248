"""Everything of the benchmark that depends on how vecfill makes its jobs, stages and engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from vecfill.bench.scratch import Table
from vecfill.bench.watch import Spans, Watched
from vecfill.blocks import OUTCOMES
from vecfill.config.engine import EngineOptions
from vecfill.config.model import Dtype, Model
from vecfill.config.target import Target
from vecfill.encode.stage import EncodeSpec
from vecfill.engine.choice import max_block_rows, opened
from vecfill.engine.warm import Warm
from vecfill.job import EncodeStage, Engine, Job, Shared, Stage, Stop, Worker
from vecfill.postgres.database import Database
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection, selection_of
from vecfill.postgres.session import Session
from vecfill.read.source import TableSource
from vecfill.read.units import Bucket, PageRange, RowUnit, plan_units
from vecfill.write.sink import TableSink

STAGES = ("read", "encode", "write")

Results = Callable[[Sequence[RowUnit]], Iterator[pa.Table]]
"""An engine: WriteResults of the units given."""

LEAST_BLOCKS = 4
"""Blocks of a measurement: a warm rate leaves the first out. Smaller blocks than a run's, where there are few rows."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A scratch table to fill and the model to do it with; ``dedupe`` computes each distinct text once."""

    table: Table
    model: Model
    dedupe: bool = False

    def with_dtype(self, dtype: Dtype) -> Work:
        """The same work with the model in this type."""
        return replace(self, model=replace(self.model, dtype=dtype))


def _job(work: Work) -> Job:
    """The job that fills the scratch table: it remembers nothing and samples nothing."""
    relation, database = work.table.relation, work.table.database
    encode = EncodeSpec(
        model=work.model,
        dim=relation.table.vector.dim,
        arity=relation.table.arity,
        column=f"{work.table.label}.embedding",
        dedupe=work.dedupe,
    )
    sink = TableSink(database=database, relation=relation, selection=_selection(work))
    return Job(source=_source(work), encode=encode, sink=sink)


def _source(work: Work) -> TableSource:
    return TableSource(session=Session(work.table.database), relation=work.table.relation, selection=_selection(work))


def _selection(work: Work) -> Selection:
    """The rows without a vector; of a tracked table also the changed ones, as ``vecfill run`` takes them."""
    target = Target(table=work.table.label, text="text")
    return selection_of(target, "changed" if work.table.relation.tracking else None)


# -- blocks


def ranges_of(work: Work, engine: str) -> list[RowUnit]:
    """What ``vecfill run --engine`` would read, block by block; at least ``LEAST_BLOCKS`` where the pages allow it."""
    with closing(_source(work)) as source:
        buckets = source.survey().buckets
    units = plan_units(buckets, most_rows=max_block_rows(_job(work).encode, engine))
    return units if len(units) >= LEAST_BLOCKS else [*evenly(buckets, LEAST_BLOCKS)]


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


def missing_texts(database: Database, relation: Relation, rows: int) -> list[str]:
    """Texts of the first ``rows`` rows that miss a vector."""
    found: list[str] = []
    with closing(TableSource(session=Session(database), relation=relation)) as source:
        read = source.reader(Worker())
        for leaf in range(len(relation.table.leaves)):
            unit = PageRange(leaf=leaf, first_page=0, end_page=None, rows=rows, limit=rows - len(found))
            found += read(unit)["text"].to_pylist() if len(found) < rows else []
    return found


def text_blocks(work: Work) -> list[pa.Table]:
    """Every TextBlock of the table."""
    with closing(_source(work)) as source:
        read = source.reader(Worker())
        return [read(unit) for unit in ranges_of(work, "ray")]


def encoded_blocks(work: Work, batch: int | None = None, rows: int | None = None) -> list[pa.Table]:
    """The table's EncodedBlocks: as they are read, or of ``batch`` rows each; of the first ``rows`` rows if given."""
    encode, blocks = encode_stage(work), text_blocks(work)
    if batch is None:
        return [encode(block) for block in blocks]
    found = encode(pa.concat_tables(blocks).slice(0, rows)).combine_chunks()
    return [found.slice(at, batch).combine_chunks() for at in range(0, found.num_rows, batch)]


def rows_of(result: pa.Table) -> int:
    """Rows that a WriteResult accounts for."""
    return int(sum(sum(result[outcome].to_pylist()) for outcome in OUTCOMES))


# -- stages and engines


def encode_stage(work: Work) -> EncodeStage:
    """The encode stage alone."""
    return _job(work).encode.stage(Worker())


def write_stage(work: Work) -> Stage:
    """The write stage alone."""
    return _job(work).sink.writer(Worker())


def inline_engine(work: Work, spans: Spans, budget: Shared | None = None) -> tuple[Engine, Any]:
    """The in-process engine over watched stages, and its encode stage; ``budget`` is an API's, across measurements."""
    from vecfill.engine.inline import InlineEngine

    engine = InlineEngine(_job(work), shared=budget)
    for name in STAGES:
        setattr(engine, name, Watched(name, getattr(engine, name), spans))
    return engine, engine.encode


def results_of(engine: Engine, units: Sequence[RowUnit]) -> Iterator[pa.Table]:
    """The engine's WriteResults, a block each."""
    return engine.stream(units, Stop())


@contextmanager
def ray_engine(work: Work) -> Iterator[Results]:
    """The Ray engine on a cluster of its own, as ``vecfill run`` starts it."""
    with (
        closing(Warm()) as warm,
        opened(_job(work), EngineOptions(engine="ray"), work.table.rows, warm) as engine,
    ):
        yield partial(results_of, engine)


@contextmanager
def ray_recipe(work: Work, encode: Callable[[Any, int], Any]) -> Iterator[Results]:
    """Our reader and writer around somebody else's encoder, on a cluster of its own.

    Args:
        work: what to read and write.
        encode: maps a Ray dataset of TextBlocks, given with the number of its rows, to one of EncodedBlocks.
    """
    with closing(Warm()) as warm:
        warm.cluster(None, verbose=False)
        yield partial(_recipe_results, _job(work), encode, warm)


def _recipe_results(
    job: Job, encode: Callable[[Any, int], Any], warm: Warm, units: Sequence[RowUnit]
) -> Iterator[pa.Table]:
    """The recipe's WriteResults. The readers and the writer are ours: with Ray's own, two cores are too few."""
    from vecfill.engine.ray_actors import encode_and_write, read_units

    coordination = warm.coordination()
    encoded = encode(read_units(job.source, units, coordination, readers=1), sum(unit.rows for unit in units))
    written = encode_and_write(encoded, lambda block: block, job.sink, coordination, writers=1, at_a_time=1)
    yield from written.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
