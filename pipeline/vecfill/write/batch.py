"""One write batch: the transaction that lands it, and what became of each of its rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa

from vecfill.blocks import OUTCOMES, key_names
from vecfill.errors import ConfigError, DatabaseError
from vecfill.postgres import statements
from vecfill.postgres.session import Connection, Cursor, transaction
from vecfill.postgres.target import Relation
from vecfill.write.copy_binary import binary_field, copy_stream, int4_field, vector_field


@dataclass(frozen=True)
class Unresolved:
    """A row that was not updated: its key in the server's words, the outcome, and why."""

    key: str
    outcome: str
    error_class: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Landed:
    """What the server says of a batch: a count for each of ``OUTCOMES``, the rows not updated, bytes sent."""

    counts: dict[str, int]
    unresolved: tuple[Unresolved, ...] = ()
    bytes: int = 0


@dataclass(frozen=True)
class Batch:
    """Rows to write, ready for COPY: keys and hashes as Arrow, vectors as NumPy.

    Attributes:
        keys: one binary array a key column, each of n rows.
        hashes: binary(16) [n].
        vectors: float32 [n, dim]; whatever stands in a failed row is not sent.
        failed: bool [n]: rows without a vector; the server names them and counts them as ``failed``.
        errors: error class and message of the failed rows, by position.
    """

    keys: tuple[pa.Array, ...]
    hashes: pa.Array
    vectors: npt.NDArray[np.float32]
    failed: npt.NDArray[np.bool_]
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, table: pa.Table, kind: str) -> Batch:
        """Makes a batch of an EncodedBlock, checking each vector after the cast to the column's type ``kind``."""
        table = table.combine_chunks()
        column = _single(table.column("embedding"))
        vectors = (
            column.flatten().to_numpy()
            if column.null_count == 0
            else column.fill_null(_zeros(column.type)).flatten().to_numpy()
        )
        vectors = vectors.reshape(len(column), column.type.list_size)
        failed = np.asarray(column.is_null())
        errors = {
            int(row): (table.column("error_class")[int(row)].as_py(), table.column("error")[int(row)].as_py())
            for row in np.flatnonzero(failed)
        }
        beyond = ~failed & ~_fits(vectors, kind)
        errors |= {int(row): ("row", _overflow(vectors[row], kind)) for row in np.flatnonzero(beyond)}
        keys = tuple(_single(table.column(name)) for name in key_names(_arity(table)))
        return cls(keys, _single(table.column("text_hash")), vectors, failed | beyond, errors)

    def __len__(self) -> int:
        return len(self.hashes)

    def part(self, rows: slice) -> Batch:
        """The rows of ``rows``, positions counted anew."""
        start, stop = rows.start, rows.stop
        errors = {row - start: error for row, error in self.errors.items() if start <= row < stop}
        return Batch(
            tuple(key[rows] for key in self.keys), self.hashes[rows], self.vectors[rows], self.failed[rows], errors
        )

    def failing(self, error: tuple[str, str]) -> Batch:
        """The same rows with no vector, because of ``error``: lets the server name and count them."""
        n = len(self)
        return Batch(self.keys, self.hashes, self.vectors, np.ones(n, np.bool_), dict.fromkeys(range(n), error))


def _single(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks)
        if column.num_chunks
        else pa.array([], column.type)
    )


def _zeros(kind: pa.FixedSizeListType) -> pa.Scalar:
    return pa.scalar([0.0] * kind.list_size, kind)


def _arity(table: pa.Table) -> int:
    return sum(name.startswith("key") for name in table.column_names)


def _fits(vectors: npt.NDArray[np.float32], kind: str) -> npt.NDArray[np.bool_]:
    """Bool [n]: every component finite in the column's own type; one NaN or Inf fails a whole COPY (22000)."""
    with np.errstate(over="ignore"):
        stored = vectors.astype(np.float16) if kind == "halfvec" else vectors
    return np.asarray(np.isfinite(stored).all(axis=1))


def _overflow(vector: npt.NDArray[np.float32], kind: str) -> str:
    worst = vector[np.argmax(~np.isfinite(vector))] if not np.isfinite(vector).all() else np.abs(vector).max()
    return f"the vector holds {worst:g}, which {kind} cannot store (limit 65504 for halfvec, finite for all)"


def land(connection: Connection, relation: Relation, batch: Batch) -> Landed:
    """Writes a batch in one short transaction; committed when it returns. Safe to repeat: what is filled stays.

    Raises:
        ConfigError: a trigger changed the text under a vector; nothing of the batch was kept.
        DatabaseError: the server did not account for every row; nothing of the batch was kept.
        psycopg.Error: as the server said; nothing of the batch was kept.
    """
    with transaction(connection, relation.settings) as cursor:
        sent = _stage(cursor, relation, batch)
        rows = cursor.execute(statements.write(relation), ()).fetchall()
        outcomes = {position: outcome for outcome, _, positions in rows for position in positions or ()}
        if relation.triggers_after:
            changed = cursor.execute(statements.rewritten(relation), (list(outcomes),)).fetchall()
            outcomes |= {row: "rewritten" for (row,) in changed}
        keys = _keys(cursor, relation, outcomes)
        outcomes |= _settled(cursor, relation, outcomes, keys)
        _check_kept(relation, outcomes, keys)
        counts = Counter(outcomes.values())
        counts["updated"] = sum(count for outcome, count, _ in rows if outcome == "updated")
        if counts.total() != len(batch):
            raise DatabaseError(f"the server accounted for {counts.total()} of {len(batch)} rows: please report this")
    unresolved = tuple(
        Unresolved(key, outcomes[row], *batch.errors.get(row, (None, None)))
        for row, (key, _) in keys.items()
        if outcomes[row] != "gone"
    )
    return Landed({outcome: counts[outcome] for outcome in OUTCOMES}, unresolved, sent)


def _stage(cursor: Cursor, relation: Relation, batch: Batch) -> int:
    """Fills the temporary table and returns the bytes that were sent."""
    cursor.execute(statements.create_stage(relation))
    fields = [
        int4_field(np.arange(len(batch), dtype=np.int32)),
        *(binary_field(key) for key in batch.keys),
        binary_field(batch.hashes),
        vector_field(batch.vectors, batch.failed, relation.vector.kind),
    ]
    sent = 0
    with cursor.copy(statements.copy_stage()) as copy:
        for buffer in copy_stream(fields):
            copy.write(buffer)
            sent += len(buffer)
    if cursor.rowcount != len(batch):
        raise DatabaseError(f"COPY took {cursor.rowcount} of {len(batch)} rows: the connection may cut streams short")
    cursor.execute(statements.analyze_stage(relation))
    return sent


_NAMED = ("failed", "refused", "rewritten", "unlocked")


def _keys(cursor: Cursor, relation: Relation, outcomes: dict[int, str]) -> dict[int, tuple[str, bool]]:
    """Key as text, and whether the row is still there, of the rows that someone will want to look at."""
    rows = [row for row, outcome in outcomes.items() if outcome in _NAMED]
    if not rows:
        return {}
    return {row: (key, there) for row, key, there in cursor.execute(statements.name_keys(relation), (rows,)).fetchall()}


def _settled(
    cursor: Cursor, relation: Relation, outcomes: dict[int, str], keys: dict[int, tuple[str, bool]]
) -> dict[int, str]:
    """Why the rows that could not be locked could not: they are gone, another holds them, or a policy hides them."""
    settled = {row: "locked" if keys[row][1] else "gone" for row, outcome in outcomes.items() if outcome == "unlocked"}
    locked = [row for row, outcome in settled.items() if outcome == "locked"]
    if locked and relation.policies:
        settled |= dict.fromkeys(_hidden(cursor, relation, locked), "refused")
    return settled


def _hidden(cursor: Cursor, relation: Relation, rows: list[int]) -> set[int]:
    """Rows that nobody holds and that still cannot be locked: a row-level policy for UPDATE leaves them out."""
    try:
        with cursor.connection.transaction():
            found = cursor.execute(statements.lockable(relation), (rows,)).fetchall()
    except psycopg.errors.LockNotAvailable:
        return set()
    return set(rows) - {row for (row,) in found}


def _check_kept(relation: Relation, outcomes: dict[int, str], keys: dict[int, tuple[str, bool]]) -> None:
    rewritten = [keys[row][0] for row, outcome in outcomes.items() if outcome == "rewritten"]
    if rewritten:
        raise ConfigError(
            f"a trigger on {relation.label} changed the text of {len(rewritten)} rows while their vector was written "
            f"(key {rewritten[0]}): the vector would not belong to it, and the batch was rolled back: take the column "
            "that the trigger, or a generated column over --set, changes out of --text, or disable the trigger"
        )
