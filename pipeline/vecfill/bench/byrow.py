"""Writing a row a statement: what most scripts do, here with binary parameters, prepared."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from vecfill.bench.batches import encoded
from vecfill.bench.measure import Measured
from vecfill.engine.job import Job
from vecfill.postgres.session import Connection
from vecfill.write.copy_binary import Field, binary_field, vector_field
from vecfill.write.stage import BinaryValue, accept_binary_values

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

    def prepare(self) -> dict[str, Any]:
        """Reads and encodes the rows and makes each one's parameters."""
        (table,) = encoded(self.job, self.rows, self.rows)
        vectors = table["embedding"].chunk(0).flatten().to_numpy().reshape(table.num_rows, -1)
        present = np.zeros(table.num_rows, np.bool_)
        keys = _values(binary_field(table["key0"].chunk(0)))
        self._parameters = list(zip(_values(vector_field(vectors, present, "vector")), keys, strict=True))
        return {}

    def measure(self) -> Measured:
        """Writes row after row over one connection."""
        update = _UPDATE.format(self.job.relation.name)
        with closing(self.job.database.connect()) as connection, connection.cursor() as cursor:
            connection.prepare_threshold = PREPARE_AFTER
            accept_binary_values(cursor)
            work = self._all_at_once(connection, cursor, update) if self.many else self._one_by_one(cursor, update)
            start = time.perf_counter()
            work()
            seconds = time.perf_counter() - start
        return Measured(seconds=seconds, marks=((seconds, len(self._parameters)),), stages={"write": seconds})

    def close(self) -> None:
        """Nothing is held."""

    def _one_by_one(self, cursor: psycopg.Cursor[Any], update: sql.Composed) -> Callable[[], None]:
        def work() -> None:
            for parameters in self._parameters:
                cursor.execute(update, parameters)

        return work

    def _all_at_once(
        self, connection: Connection, cursor: psycopg.Cursor[Any], update: sql.Composed
    ) -> Callable[[], None]:
        def work() -> None:
            with connection.transaction():
                cursor.executemany(update, self._parameters)

        return work


def _values(column: Field) -> list[BinaryValue]:
    data, bounds = column.data.tobytes(), column.offsets.tolist()
    return [BinaryValue(data[start:end]) for start, end in pairwise(bounds)]


_UPDATE = sql.SQL("UPDATE {} SET embedding = $1 WHERE id = $2")
