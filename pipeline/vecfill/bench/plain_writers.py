"""Other ways to write, which account for nothing: an UPDATE a row, ``executemany``, a bare COPY and join."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg import sql

from vecfill.bench.measure import Mark, Measured
from vecfill.bench.ours import Work, encoded_blocks
from vecfill.bench.worker import Runner
from vecfill.postgres.database import Connection
from vecfill.write.copy_binary import Field, binary_field, copy_stream, vector_field
from vecfill.write.staging import BinaryValue, accept_binary_values

BATCH_ROWS = 2_000
"""The best of 1,000 to 8,000 rows at 384 dimensions for the bare COPY and join."""

PREPARE_AFTER = 5
"""psycopg's own default, which our connections turn off for the sake of poolers."""


def _fields(block: pa.Table) -> tuple[Field, Field]:
    """Key and vector of a block's rows in the server's binary form."""
    vectors = block["embedding"].chunk(0).flatten().to_numpy().reshape(block.num_rows, -1)
    present = np.zeros(block.num_rows, np.bool_)
    return binary_field(block["key0"].chunk(0)), vector_field(vectors, present, "vector")


@dataclass(kw_only=True)
class _Plain(Runner):
    """A writer over one warm connection."""

    work: Work
    _connection: Any = field(default=None, repr=False)

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()


@dataclass(kw_only=True)
class Bare(_Plain):
    """COPY into a temporary table, join, commit: with as few statements as possible."""

    batch: int = BATCH_ROWS
    _batches: list[tuple[tuple[Field, Field], int]] = field(default_factory=list, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Reads and encodes everything, keeps it batch by batch, and writes one batch over its connection."""
        self._batches = [(_fields(block), block.num_rows) for block in encoded_blocks(self.work, self.batch)]
        self._connection = self.work.table.database.connect()
        _copy_and_join(self._connection, self.work.table.name, *self._batches[0])
        return {}

    def measure(self) -> Measured:
        """Writes batch after batch."""
        marks: list[Mark] = []
        start = time.perf_counter()
        for fields, rows in self._batches:
            _copy_and_join(self._connection, self.work.table.name, fields, rows)
            marks.append((time.perf_counter() - start, rows))
        seconds = time.perf_counter() - start
        return Measured(seconds=seconds, marks=tuple(marks), stages={"write": seconds})


def _copy_and_join(connection: Connection, table: sql.Composable, fields: tuple[Field, Field], rows: int) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_STAGE.format(table))
        with cursor.copy("COPY pg_temp.bare FROM STDIN (FORMAT BINARY)") as copy:
            for buffer in copy_stream(list(fields)):
                copy.write(buffer)
        cursor.execute(_JOIN.format(table, sql.Literal(rows)))


_STAGE = sql.SQL("CREATE TEMPORARY TABLE bare ON COMMIT DROP AS SELECT id, embedding FROM {} WITH NO DATA")
_JOIN = sql.SQL(
    "UPDATE {} AS t SET embedding = s.embedding FROM (SELECT * FROM pg_temp.bare LIMIT {}) AS s WHERE t.id = s.id"
)
_UPDATE = sql.SQL("UPDATE {} SET embedding = $1 WHERE id = $2")


@dataclass(kw_only=True)
class ByRow(_Plain):
    """A prepared UPDATE a row by key: each committed by itself, or ``executemany`` in one transaction."""

    rows: int
    many: bool = False
    _parameters: list[tuple[BinaryValue, BinaryValue]] = field(default_factory=list, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Reads and encodes the rows, makes their parameters, and writes as many as it takes to prepare."""
        (block,) = encoded_blocks(self.work, self.rows, self.rows)
        keys, vectors = (_values(one) for one in _fields(block))
        self._parameters = list(zip(vectors, keys, strict=True))
        self._connection = self.work.table.database.connect()
        self._connection.prepare_threshold = PREPARE_AFTER
        accept_binary_values(self._connection)
        for parameters in self._parameters[: PREPARE_AFTER + 1]:
            self._connection.execute(_UPDATE.format(self.work.table.name), parameters)
        return {}

    def measure(self) -> Measured:
        """Writes row after row."""
        update = _UPDATE.format(self.work.table.name)
        with self._connection.cursor() as cursor:
            start = time.perf_counter()
            if self.many:
                with self._connection.transaction():
                    cursor.executemany(update, self._parameters)
            else:
                for parameters in self._parameters:
                    cursor.execute(update, parameters)
            seconds = time.perf_counter() - start
        return Measured(seconds=seconds, marks=((seconds, len(self._parameters)),), stages={"write": seconds})


def _values(column: Field) -> list[BinaryValue]:
    data, bounds = column.data.tobytes(), column.offsets.tolist()
    return [BinaryValue(data[start:end]) for start, end in pairwise(bounds)]
