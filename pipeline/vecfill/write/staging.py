"""Sends a batch to the server, as a temporary table or as arrays, and runs statements on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from psycopg import pq
from psycopg.abc import AdaptContext
from psycopg.adapt import Buffer, Dumper

from vecfill.errors import DatabaseError
from vecfill.postgres import staging_sql
from vecfill.postgres.database import Cursor
from vecfill.postgres.relation import Relation
from vecfill.postgres.staging_sql import Query
from vecfill.write.batch import Batch
from vecfill.write.copy_binary import (
    BYTEA_OID,
    INT4_OID,
    Field,
    binary_array,
    binary_field,
    copy_stream,
    int4_field,
    number_arrays,
    vector_field,
)


class BinaryValue(bytes):
    """A parameter in the server's binary format; the statement determines its type."""


class _BinaryValueDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: BinaryValue) -> Buffer:
        return obj


def accept_binary_values(context: AdaptContext) -> None:
    """Enables ``BinaryValue`` parameters for the statements of a cursor or connection."""
    context.adapters.register_dumper(BinaryValue, _BinaryValueDumper)


@dataclass(frozen=True)
class StagedBatch:
    """A batch on the server, until the transaction ends.

    Attributes:
        cursor: of that transaction.
        row_arrays: positions, keys and hashes, parameters of every statement; empty for a temporary table.
        vector_arrays: vectors, parameters of the writing statement only.
        bytes: number of bytes sent.
    """

    cursor: Cursor
    row_arrays: tuple[BinaryValue, ...]
    vector_arrays: tuple[BinaryValue, ...]
    bytes: int

    def write(self, query: Query, rows: int) -> list[tuple[Any, ...]]:
        """Runs ``write_sql.write``."""
        return self.cursor.execute(query, (rows, *self.row_arrays, *self.vector_arrays)).fetchall()

    def query(self, query: Query, positions: Sequence[int]) -> list[tuple[Any, ...]]:
        """Runs another statement of ``write_sql`` for some rows of the batch; it needs no vectors."""
        return self.cursor.execute(query, (list(positions), *self.row_arrays)).fetchall()

    def execute(self, query: Query, parameter: Any) -> None:
        """Runs a statement without a result on the staged rows."""
        self.cursor.execute(query, (parameter, *self.row_arrays))


def opening_statement(relation: Relation) -> Query | None:
    """Returns the first statement of a batch's transaction: CREATE for a temporary table, None for arrays."""
    return None if relation.access.arrays else staging_sql.create_staging_table(relation)


def stage_batch(cursor: Cursor, relation: Relation, batch: Batch) -> StagedBatch:
    """Stages a batch in the way this role may use, in a transaction that began with ``opening_statement``.

    Raises:
        DatabaseError: the server did not receive every row.
    """
    if not relation.access.arrays:
        return StagedBatch(cursor, (), (), _copy(cursor, relation, batch))
    accept_binary_values(cursor)
    rows = tuple(map(BinaryValue, _row_arrays(relation, batch)))
    vectors = tuple(map(BinaryValue, _vector_arrays(relation, batch)))
    return StagedBatch(cursor, rows, vectors, sum(map(len, rows + vectors)))


def _row_fields(batch: Batch) -> list[Field]:
    """Returns positions, keys and hashes, in the column order of the staging table."""
    positions = np.arange(len(batch), dtype=np.int32)
    return [int4_field(positions), *(binary_field(key) for key in batch.keys), binary_field(batch.hashes)]


def _copy(cursor: Cursor, relation: Relation, batch: Batch) -> int:
    """Fills the temporary table and returns the number of bytes sent."""
    fields = [*_row_fields(batch), vector_field(batch.vectors, batch.failed, relation.table.vector.kind)]
    sent = 0
    with cursor.copy(staging_sql.copy_into_staging_table()) as copy:
        for buffer in copy_stream(fields):
            copy.write(buffer)
            sent += len(buffer)
    if cursor.rowcount != len(batch):
        raise DatabaseError(f"COPY received {cursor.rowcount} of {len(batch)} rows: a proxy may truncate the stream")
    return sent


def _row_arrays(relation: Relation, batch: Batch) -> Iterator[bytes]:
    oids = [INT4_OID, *(key.oid for key in relation.table.key), BYTEA_OID]
    for field, oid in zip(_row_fields(batch), oids, strict=True):
        yield binary_array(field, oid)


def _vector_arrays(relation: Relation, batch: Batch) -> Iterator[bytes]:
    """Yields one array of vectors; for a plain array the offset of each row, and all numbers."""
    if relation.table.vector.array is not None:
        yield binary_array(
            vector_field(batch.vectors, batch.failed, relation.table.vector.kind), relation.table.vector.oid
        )
    else:
        yield from number_arrays(batch.vectors, batch.failed, relation.table.vector.kind)
