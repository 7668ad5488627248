"""Writing a row a statement: what most scripts do, here with binary parameters, prepared."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from vecfill.bench.batches import encoded
from vecfill.bench.measure import Measured
from vecfill.job import Job
from vecfill.postgres.database import Connection
from vecfill.write.copy_binary import Field, binary_field, vector_field
from vecfill.write.staging import BinaryValue, accept_binary_values

PREPARE_AFTER = 5
"""psycopg's own default, which our connections turn off for the sake of poolers."""

Parameters = list[tuple[BinaryValue, BinaryValue]]


@dataclass(kw_only=True)
class ByRow:
    """An UPDATE a row by key: each committed by itself, or ``executemany`` in one transaction."""

    job: Job
    rows: int
    many: bool = False
    _parameters: Parameters = field(default_factory=list, repr=False)
    _connection: Any = field(default=None, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Reads and encodes the rows, makes their parameters, and writes so many that the statement is prepared."""
        (table,) = encoded(self.job, self.rows, self.rows)
        vectors = table["embedding"].chunk(0).flatten().to_numpy().reshape(table.num_rows, -1)
        present = np.zeros(table.num_rows, np.bool_)
        keys = _values(binary_field(table["key0"].chunk(0)))
        self._parameters = list(zip(_values(vector_field(vectors, present, "vector")), keys, strict=True))
        self._connection = self.job.database.connect()
        self._connection.prepare_threshold = PREPARE_AFTER
        accept_binary_values(self._connection)
        for parameters in self._parameters[: PREPARE_AFTER + 1]:
            self._connection.execute(_update(self.job), parameters)
        return {}

    def measure(self) -> Measured:
        """Writes row after row over one connection."""
        with self._connection.cursor() as cursor:
            start = time.perf_counter()
            if self.many:
                self._all_at_once(self._connection, cursor)
            else:
                self._one_by_one(cursor)
            seconds = time.perf_counter() - start
        return Measured(seconds=seconds, marks=((seconds, len(self._parameters)),), stages={"write": seconds})

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()

    def _one_by_one(self, cursor: psycopg.Cursor[Any]) -> None:
        update = _update(self.job)
        for parameters in self._parameters:
            cursor.execute(update, parameters)

    def _all_at_once(self, connection: Connection, cursor: psycopg.Cursor[Any]) -> None:
        with connection.transaction():
            cursor.executemany(_update(self.job), self._parameters)


def _values(column: Field) -> list[BinaryValue]:
    data, bounds = column.data.tobytes(), column.offsets.tolist()
    return [BinaryValue(data[start:end]) for start, end in pairwise(bounds)]


def _update(job: Job) -> sql.Composed:
    return sql.SQL("UPDATE {} SET embedding = $1 WHERE id = $2").format(job.relation.table.name)
