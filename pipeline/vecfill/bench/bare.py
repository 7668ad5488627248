"""The ceiling of the database side: a binary COPY and one UPDATE a batch, and no accounting."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg import sql

from vecfill.bench.measure import Mark, Measured
from vecfill.bench.ours import blocks_of
from vecfill.encode.stage import Encode
from vecfill.engine.job import Job
from vecfill.postgres.session import Connection
from vecfill.postgres.target import Relation
from vecfill.write.copy_binary import binary_field, copy_stream, vector_field

BATCH_ROWS = 2_000


@dataclass(kw_only=True)
class Bare:
    """COPY into a temporary table, join, commit: as few statements as it can be done with."""

    job: Job
    _batches: list[tuple[pa.Array, Any]] = field(default_factory=list, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Reads and encodes everything, and keeps keys and vectors batch by batch."""
        table = Encode(self.job.encode)(pa.concat_tables(blocks_of(self.job))).combine_chunks()
        keys = table["key0"].chunk(0)
        vectors = table["embedding"].chunk(0).flatten().to_numpy().reshape(len(keys), -1)
        cuts = range(0, len(keys), BATCH_ROWS)
        self._batches = [(keys[at : at + BATCH_ROWS], vectors[at : at + BATCH_ROWS]) for at in cuts]
        return {}

    def measure(self) -> Measured:
        """Writes batch after batch over one connection."""
        marks: list[Mark] = []
        with closing(self.job.database.connect()) as connection:
            start = time.perf_counter()
            for keys, vectors in self._batches:
                _write(connection, self.job.relation, keys, vectors)
                marks.append((time.perf_counter() - start, len(keys)))
            seconds = time.perf_counter() - start
        return Measured(seconds=seconds, marks=tuple(marks), stages={"write": seconds})

    def close(self) -> None:
        """Nothing is held."""


def _write(connection: Connection, relation: Relation, keys: pa.Array, vectors: Any) -> None:
    fields = [binary_field(keys), vector_field(vectors, np.zeros(len(keys), np.bool_), relation.vector.kind)]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_STAGE.format(relation.name))
        with cursor.copy("COPY pg_temp.bare FROM STDIN (FORMAT BINARY)") as copy:
            for buffer in copy_stream(fields):
                copy.write(buffer)
        cursor.execute("ANALYZE pg_temp.bare (id)")
        cursor.execute(_UPDATE.format(relation.name))


_STAGE = sql.SQL("CREATE TEMPORARY TABLE bare ON COMMIT DROP AS SELECT id, embedding FROM {} WITH NO DATA")
_UPDATE = sql.SQL("UPDATE {} AS t SET embedding = s.embedding FROM pg_temp.bare AS s WHERE t.id = s.id")
