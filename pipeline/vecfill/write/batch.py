"""One write batch: its rows as Arrow and NumPy, with every vector checked before it is sent."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vecfill.arrow_arrays import arrow_array, arrow_scalar, numpy_array
from vecfill.blocks import key_names


@dataclass(frozen=True)
class Batch:
    """Rows to write, ready for COPY: keys and hashes as Arrow, vectors as NumPy.

    Attributes:
        keys: one binary array a key column, each of n rows.
        hashes: binary(16) [n].
        vectors: float32 [n, dim]; the values of failed rows are not sent.
        failed: bool [n]: rows without a vector; the server returns their keys and counts them as ``failed``.
        errors: position → error class and message, of the failed rows.
        stage: where the failed rows failed.
    """

    keys: tuple[pa.Array, ...]
    hashes: pa.Array
    vectors: npt.NDArray[np.float32]
    failed: npt.NDArray[np.bool_]
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)
    stage: str = "encode"

    @classmethod
    def from_block(cls, table: pa.Table, kind: str) -> Batch:
        """Makes a batch from an EncodedBlock. Checks each vector after a cast to the column's type ``kind``."""
        table = table.combine_chunks()
        column = _one_chunk(table.column("embedding"))
        vectors = (
            numpy_array(column.flatten())
            if column.null_count == 0
            else numpy_array(column.fill_null(_zeros(column.type)).flatten())
        )
        vectors = vectors.reshape(len(column), column.type.list_size)
        failed = numpy_array(column.is_null())
        errors = {
            int(row): (table.column("error_class")[int(row)].as_py(), table.column("error")[int(row)].as_py())
            for row in np.flatnonzero(failed)
        }
        unfit = ~failed & ~_fits(vectors, kind)
        errors |= {int(row): ("row", _complaint(vectors[row], kind)) for row in np.flatnonzero(unfit)}
        keys = tuple(_one_chunk(table.column(name)) for name in key_names(_arity(table)))
        return cls(keys, _one_chunk(table.column("text_hash")), vectors, failed | unfit, errors)

    def __len__(self) -> int:
        return len(self.hashes)

    def part(self, rows: slice) -> Batch:
        """Returns a slice of the batch, with positions starting at 0."""
        start, stop = rows.start, rows.stop
        errors = {row - start: error for row, error in self.errors.items() if start <= row < stop}
        return Batch(
            tuple(key[rows] for key in self.keys), self.hashes[rows], self.vectors[rows], self.failed[rows], errors
        )

    def as_failed(self, error: tuple[str, str]) -> Batch:
        """Returns the same rows without vectors, failed with ``error``; the server returns their keys and counts."""
        n = len(self)
        failed = np.ones(n, np.bool_)
        return Batch(self.keys, self.hashes, self.vectors, failed, dict.fromkeys(range(n), error), "write")


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks)
        if column.num_chunks
        else arrow_array([], column.type)
    )


def _zeros(kind: pa.FixedSizeListType) -> pa.Scalar:
    return arrow_scalar([0.0] * kind.list_size, kind)


def _arity(table: pa.Table) -> int:
    return sum(name.startswith("key") for name in table.column_names)


def _fits(vectors: npt.NDArray[np.float32], kind: str) -> npt.NDArray[np.bool_]:
    """Bool [n]: every component is finite in the column's type, and one at least is not zero.

    One NaN or Inf makes the whole COPY fail (22000). A zero vector has no cosine: its distance is NaN, and no index
    holds it.
    """
    with np.errstate(over="ignore"):
        stored = vectors.astype(np.float16) if kind == "halfvec" else vectors
    return np.asarray(np.isfinite(stored).all(axis=1) & stored.any(axis=1))


def _complaint(vector: npt.NDArray[np.float32], kind: str) -> str:
    if not vector.any():
        return "the model gives this text a vector of zeros: it may know none of its words"
    if np.abs(vector).max() < 1:
        return f"all components of the vector are zero in {kind}"
    worst = vector[np.argmax(~np.isfinite(vector))] if not np.isfinite(vector).all() else np.abs(vector).max()
    return f"the vector contains {worst:g}, which {kind} cannot store (limit 65504 for halfvec, finite for all)"
