"""The ceiling of the database side: a binary COPY and one UPDATE a batch, and no accounting."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg import sql

from vecfill.bench.batches import encoded
from vecfill.bench.measure import Mark, Measured
from vecfill.job import Job
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.write.copy_binary import binary_field, copy_stream, vector_field

BATCH_ROWS = 2_000
"""Its best of 1,000 to 8,000 rows at 384 dimensions."""


@dataclass(kw_only=True)
class Bare:
    """COPY into a temporary table, join, commit: as few statements as it can be done with."""

    job: Job
    batch: int = BATCH_ROWS
    _batches: list[tuple[pa.Array, Any]] = field(default_factory=list, repr=False)
    _connection: Any = field(default=None, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Reads and encodes everything, keeps keys and vectors batch by batch, and writes one over its connection."""
        for table in encoded(self.job, self.batch):
            vectors = table["embedding"].chunk(0).flatten().to_numpy().reshape(table.num_rows, -1)
            self._batches.append((table["key0"].chunk(0), vectors))
        self._connection = self.job.database.connect()
        _write(self._connection, self.job.relation, *self._batches[0])
        return {}

    def measure(self) -> Measured:
        """Writes batch after batch over one connection."""
        marks: list[Mark] = []
        start = time.perf_counter()
        for keys, vectors in self._batches:
            _write(self._connection, self.job.relation, keys, vectors)
            marks.append((time.perf_counter() - start, len(keys)))
        seconds = time.perf_counter() - start
        return Measured(seconds=seconds, marks=tuple(marks), stages={"write": seconds})

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()


def _write(connection: Connection, relation: Relation, keys: pa.Array, vectors: Any) -> None:
    fields = [binary_field(keys), vector_field(vectors, np.zeros(len(keys), np.bool_), relation.table.vector.kind)]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_STAGE.format(relation.table.name))
        with cursor.copy("COPY pg_temp.bare FROM STDIN (FORMAT BINARY)") as copy:
            for buffer in copy_stream(fields):
                copy.write(buffer)
        cursor.execute(_UPDATE.format(relation.table.name, sql.Literal(len(keys))))


_STAGE = sql.SQL("CREATE TEMPORARY TABLE bare ON COMMIT DROP AS SELECT id, embedding FROM {} WITH NO DATA")
_UPDATE = sql.SQL(
    "UPDATE {} AS t SET embedding = s.embedding FROM (SELECT * FROM pg_temp.bare LIMIT {}) AS s WHERE t.id = s.id"
)
