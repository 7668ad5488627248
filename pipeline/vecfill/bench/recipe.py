"""The plain recipe of Ray's documentation: ``map_batches`` over a class that calls ``encode``, and our writer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vecfill.bench.library import load
from vecfill.bench.measure import Measured
from vecfill.bench.ours import ranges_of, timed_stream
from vecfill.blocks import encoded_schema, key_names
from vecfill.config.model import Model
from vecfill.job import Job

BATCH_ROWS = 1024
"""What the documentation's examples of batch inference use. Half of the rows where there are fewer than twice as many:
one block tells no warm rate."""


class TextEmbedder:
    """What the recipe maps: the model, and one call of ``encode`` a batch. No thread is set: Ray decides."""

    def __init__(self, model: Model, arity: int) -> None:
        self._net, self._arity = load(model), arity

    def __call__(self, table: pa.Table) -> pa.Table:
        """TextBlock in, EncodedBlock out."""
        start = time.perf_counter()
        vectors = self._net.encode(table["text"].to_pylist(), show_progress_bar=False)
        seconds = time.perf_counter() - start
        schema = encoded_schema(self._arity, vectors.shape[1])
        embedding = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.reshape(-1)), type=schema.field("embedding").type
        )
        known = {name: table[name] for name in (*key_names(self._arity), "text_hash", "read_s")}
        known |= {"embedding": embedding, "load_s": _even(0.0, len(table)), "encode_s": _even(seconds, len(table))}
        return pa.table(
            {one.name: known[one.name] if one.name in known else _empty(one, len(table)) for one in schema},
            schema=schema,
        )


def _even(seconds: float, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(seconds / n, pa.float32()), n)


def _empty(field: pa.Field, n: int) -> pa.Array:
    """Nulls, or what says the least where nulls are not allowed."""
    if field.nullable:
        return pa.nulls(n, field.type)
    return pa.repeat(pa.scalar(False if pa.types.is_boolean(field.type) else "", field.type), n)


class _Plain:
    """The recipe as an engine."""

    name = "recipe"

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def device(self) -> str:
        """Ray's own choice."""
        return "cpu"

    @property
    def workers(self) -> dict[str, int]:
        """One actor a stage."""
        return {"read": 1, "encode": 1, "write": 1}

    def account(self) -> None:
        """An API has no part in the recipe."""

    def stream(self, ranges: Any, stop: Any) -> Any:
        """Reads, maps and writes. The writer's share of a CPU is ours: with Ray's own, two cores are too few."""
        del stop
        import ray
        from ray.data import ActorPoolStrategy

        from vecfill.engine.actors import StopFlag, WriteActor
        from vecfill.engine.datasource import TargetDatasource
        from vecfill.engine.ray import READ_CPUS, WRITE_CPUS

        flag = StopFlag.remote()  # type: ignore[attr-defined]
        source = TargetDatasource(self._job, ranges, flag)
        texts = ray.data.read_datasource(source, override_num_blocks=len(ranges), num_cpus=READ_CPUS)
        vectors = texts.map_batches(
            TextEmbedder,
            fn_constructor_args=(self._job.encode.model, self._job.encode.arity),
            batch_size=min(BATCH_ROWS, max(1, sum(one.rows for one in ranges) // 2)),
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=1),
            num_gpus=1 if ray.cluster_resources().get("GPU") else None,
        )
        written = vectors.map_batches(
            WriteActor,
            fn_constructor_args=(self._job, 1, flag),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=1),
            num_cpus=WRITE_CPUS,
        )
        return written.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(kw_only=True)
class Recipe:
    """The recipe on a cluster of its own, started for each measurement."""

    job: Job

    def prepare(self) -> dict[str, Any]:
        """Nothing yet: the cluster's start belongs to the measurement's start-up."""
        return {"dtype": "float32"}

    def measure(self) -> Measured:
        """Starts Ray and fills the table."""
        from vecfill.engine.cluster import cluster

        ranges = ranges_of(self.job, "ray")
        begun = time.perf_counter()
        with cluster(None, verbose=False):
            started = time.perf_counter() - begun
            measured, _ = timed_stream(_Plain(self.job), ranges)
        return Measured(seconds=measured.seconds, marks=measured.marks, stages=measured.stages, started=started)

    def close(self) -> None:
        """Ray ended with the measurement."""
