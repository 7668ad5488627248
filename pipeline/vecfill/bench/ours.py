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
from vecfill.encode.api.budget import Budget
from vecfill.encode.spec import Model
from vecfill.encode.stage import Encode, EncodeSpec
from vecfill.engine.choice import most_block_rows
from vecfill.job import Engine, Job, Stop
from vecfill.postgres.session import Database
from vecfill.postgres.target import Relation
from vecfill.read.reader import Read
from vecfill.read.survey import survey
from vecfill.read.units import Bucket, PageRange, plan_ranges
from vecfill.write.writer import Write

STAGES = ("read", "encode", "write")

Results = Callable[[Sequence[PageRange]], Iterator[pa.Table]]
"""An engine: WriteResults of the ranges given."""

LEAST_BLOCKS = 4
"""Blocks of a measurement: a warm rate leaves the first out. Smaller blocks than a run's, where there are few rows."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A scratch table to fill and the model to do it with; ``dedupe`` computes each distinct text once."""

    table: Table
    model: Model
    dedupe: bool = False

    def with_dtype(self, dtype: str) -> Work:
        """The same work with the model in this type."""
        return replace(self, model=replace(self.model, dtype=dtype))


def _job(work: Work) -> Job:
    """The job that fills the scratch table: it remembers nothing and samples nothing."""
    relation = work.table.relation
    spec = EncodeSpec(
        model=work.model,
        dim=relation.vector.dim,
        arity=relation.arity,
        column=f"{work.table.label}.embedding",
        dedupe=work.dedupe,
    )
    return Job(database=work.table.database, relation=relation, encode=spec)


def _reader(work: Work) -> Read:
    return Read(work.table.database, work.table.relation)


# -- blocks


def ranges_of(work: Work, engine: str) -> list[PageRange]:
    """What ``vecfill run --engine`` would read, block by block; at least ``LEAST_BLOCKS`` where the pages allow it."""
    with closing(work.table.database.connect()) as connection:
        buckets = survey(connection, work.table.relation).buckets
    ranges = plan_ranges(buckets, most_rows=most_block_rows(work.model, engine))
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


def missing_texts(database: Database, relation: Relation, rows: int) -> list[str]:
    """Texts of the first ``rows`` rows that miss a vector."""
    found: list[str] = []
    with closing(Read(database, relation)) as read:
        for leaf in range(len(relation.leaves)):
            pages = PageRange(leaf=leaf, first_page=0, end_page=None, rows=rows, limit=rows - len(found))
            found += read(pages)["text"].to_pylist() if len(found) < rows else []
    return found


def text_blocks(work: Work) -> list[pa.Table]:
    """Every TextBlock of the table."""
    with closing(_reader(work)) as read:
        return [read(pages) for pages in ranges_of(work, "ray")]


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


def encode_stage(work: Work, budget: Budget | None = None) -> Encode:
    """The encode stage alone."""
    return Encode(_job(work).encode, budget)


def write_stage(work: Work) -> Write:
    """The write stage alone."""
    return Write(work.table.database, work.table.relation)


def inline_engine(work: Work, spans: Spans, budget: Budget | None = None) -> tuple[Engine, Any]:
    """The in-process engine over watched stages, and its encode stage."""
    from vecfill.engine.inline import InlineEngine

    stages = (_reader(work), encode_stage(work, budget), write_stage(work))
    watched: list[Any] = [Watched(name, stage, spans) for name, stage in zip(STAGES, stages, strict=True)]
    return InlineEngine(*watched), watched[1]


def results_of(engine: Engine, ranges: Sequence[PageRange]) -> Iterator[pa.Table]:
    """The engine's WriteResults, a block each."""
    return engine.stream(ranges, Stop())


@contextmanager
def ray_engine(work: Work) -> Iterator[Results]:
    """The Ray engine on a cluster of its own, as ``vecfill run`` starts it."""
    from vecfill.engine.cluster import cluster

    with cluster(None, verbose=False) as resources:
        from vecfill.engine.ray import Pools, RayEngine

        pools = Pools.fitting(resources, device=work.model.device, actors=None, gpus=None, writers=None)
        with closing(RayEngine(_job(work), pools)) as engine:
            yield partial(results_of, engine)


@contextmanager
def ray_recipe(work: Work, encode: Callable[[Any, int], Any]) -> Iterator[Results]:
    """Our reader and writer around somebody else's encoder, on a cluster of its own.

    Args:
        work: what to read and write.
        encode: maps a Ray dataset of TextBlocks, given with the number of its rows, to one of EncodedBlocks.
    """
    from vecfill.engine.cluster import cluster

    with cluster(None, verbose=False):
        yield partial(_recipe_results, _job(work), encode)


def _recipe_results(job: Job, encode: Callable[[Any, int], Any], ranges: Sequence[PageRange]) -> Iterator[pa.Table]:
    """The recipe's WriteResults. The writer's share of a CPU is ours: with Ray's own, two cores are too few."""
    import ray
    from ray.data import ActorPoolStrategy

    from vecfill.engine.actors import StopFlag, WriteActor
    from vecfill.engine.datasource import TargetDatasource
    from vecfill.engine.ray import READ_CPUS, WRITE_CPUS

    flag = StopFlag.remote()  # type: ignore[attr-defined]
    source = TargetDatasource(job, ranges, flag)
    texts = ray.data.read_datasource(source, override_num_blocks=len(ranges), num_cpus=READ_CPUS)
    written = encode(texts, sum(one.rows for one in ranges)).map_batches(
        WriteActor,
        fn_constructor_args=(job, 1, flag),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=1),
        num_cpus=WRITE_CPUS,
    )
    yield from written.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
