"""Two ways to bring a batch to the server, a table and arrays, and one way to ask about it afterwards."""

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
    real_arrays,
    vector_field,
)


class BinaryValue(bytes):
    """A parameter in the server's binary form, of the type that the statement gives it."""


class _BinaryValueDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: BinaryValue) -> Buffer:
        return obj


def accept_binary_values(context: AdaptContext) -> None:
    """Lets the statements of a cursor or a connection take ``BinaryValue`` parameters."""
    context.adapters.register_dumper(BinaryValue, _BinaryValueDumper)


@dataclass(frozen=True)
class StagedBatch:
    """A batch on the server, for as long as the transaction lasts.

    Attributes:
        cursor: in that transaction.
        names: arrays that go with each statement, positions, keys and hashes; none where the stage is a table.
        vectors: arrays that go with the one that writes.
        bytes: that were sent.
    """

    cursor: Cursor
    names: tuple[BinaryValue, ...]
    vectors: tuple[BinaryValue, ...]
    bytes: int

    def write(self, query: Query, rows: int) -> list[tuple[Any, ...]]:
        """Runs ``write_sql.write``."""
        return self.cursor.execute(query, (rows, *self.names, *self.vectors)).fetchall()

    def ask(self, query: Query, positions: Sequence[int]) -> list[tuple[Any, ...]]:
        """Asks one of the other statements of ``write_sql``, which need no vectors, about rows of the batch."""
        return self.cursor.execute(query, (list(positions), *self.names)).fetchall()


def opening_statement(relation: Relation) -> Query | None:
    """What a batch's transaction starts with: the temporary table; nothing where arrays take its place."""
    return None if relation.access.arrays else staging_sql.create_staging_table(relation)


def stage_batch(cursor: Cursor, relation: Relation, batch: Batch) -> StagedBatch:
    """Stages a batch as this role may, in a transaction that started with ``opening_statement``.

    Raises:
        DatabaseError: the server did not take every row.
    """
    if not relation.access.arrays:
        return StagedBatch(cursor, (), (), _copy(cursor, relation, batch))
    accept_binary_values(cursor)
    names = tuple(map(BinaryValue, _key_arrays(relation, batch)))
    vectors = tuple(map(BinaryValue, _vector_arrays(relation, batch)))
    return StagedBatch(cursor, names, vectors, sum(map(len, names + vectors)))


def _row_fields(batch: Batch) -> list[Field]:
    """Positions, keys and hashes, in the order of the stage's columns."""
    positions = np.arange(len(batch), dtype=np.int32)
    return [int4_field(positions), *(binary_field(key) for key in batch.keys), binary_field(batch.hashes)]


def _copy(cursor: Cursor, relation: Relation, batch: Batch) -> int:
    """Fills the temporary table and returns the bytes that were sent."""
    fields = [*_row_fields(batch), vector_field(batch.vectors, batch.failed, relation.table.vector.kind)]
    sent = 0
    with cursor.copy(staging_sql.copy_into_staging_table()) as copy:
        for buffer in copy_stream(fields):
            copy.write(buffer)
            sent += len(buffer)
    if cursor.rowcount != len(batch):
        raise DatabaseError(f"COPY took {cursor.rowcount} of {len(batch)} rows: the connection may cut streams short")
    return sent


def _key_arrays(relation: Relation, batch: Batch) -> Iterator[bytes]:
    oids = [INT4_OID, *(key.oid for key in relation.table.key), BYTEA_OID]
    for field, oid in zip(_row_fields(batch), oids, strict=True):
        yield binary_array(field, oid)


def _vector_arrays(relation: Relation, batch: Batch) -> Iterator[bytes]:
    """One array of vectors; for a plain ``real[]`` where each row's numbers start, and the numbers of all."""
    if relation.table.vector.array is not None:
        yield binary_array(
            vector_field(batch.vectors, batch.failed, relation.table.vector.kind), relation.table.vector.oid
        )
    else:
        yield from real_arrays(batch.vectors, batch.failed)
