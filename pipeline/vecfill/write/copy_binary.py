"""Makes PostgreSQL's binary COPY format and arrays from Arrow and NumPy, without a Python object per value.

Pure: arrays in, buffers out. Format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". The binary
field of ``vector`` is int16 dimension, int16 zero, float32 big-endian; ``halfvec`` the same in float16 (pgvector's
``vector_recv`` and ``halfvec_recv``); ``real[]`` and ``double precision[]`` are PostgreSQL's array format. Rows with
equal field lengths form one rectangle of bytes. The row order of a COPY does not matter, so rows are grouped by length;
array elements keep their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
BYTEA_OID, INT4_OID = 17, 23
_NUMBERS = {"real[]": (700, ">f4"), "double precision[]": (701, ">f8")}
"""Kinds of plain arrays: oid and binary form of a number."""

Bytes = npt.NDArray[np.uint8]
Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Field:
    """One column as binary fields: ``data[offsets[i]:offsets[i + 1]]`` is row i's field, NULL where ``null[i]``."""

    data: Bytes
    offsets: npt.NDArray[np.int64]
    null: npt.NDArray[np.bool_]

    @property
    def lengths(self) -> Lengths:
        """int64 [n]: bytes of each row's field, -1 for NULL as in the protocol."""
        return np.where(self.null, -1, np.diff(self.offsets))


def binary_field(column: pa.Array) -> Field:
    """Makes the field of a binary column whose values are already binary fields.

    Args:
        column: ``pa.binary()`` or ``pa.binary(width)``, any offset, without nulls.
    """
    column = column.cast(pa.large_binary())
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int64, len(column) + 1, column.offset * 8)
    content = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return Field(content, bounds, np.zeros(len(column), np.bool_))


def int4_field(values: npt.NDArray[np.int32]) -> Field:
    """Makes the field of an integer column: four bytes, big-endian."""
    return _rectangle(values.astype(">i4").view(np.uint8).reshape(len(values), 4))


def vector_field(vectors: npt.NDArray[np.float32], null: npt.NDArray[np.bool_], kind: str) -> Field:
    """Makes the field of the embedding column.

    Args:
        vectors: float32 [n, dim], finite even after the cast to the column's type.
        null: bool [n], rows without a vector.
        kind: ``vector``, ``halfvec``, ``real[]`` or ``double precision[]``.
    """
    if kind in _NUMBERS:
        return _rectangle(_number_array(vectors, kind), null)
    return _rectangle(_halfvec(vectors) if kind == "halfvec" else _vector(vectors), null)


def copy_stream(fields: Sequence[Field]) -> Iterator[memoryview]:
    """Yields a whole binary COPY, header to trailer, as buffers of uint8.

    Args:
        fields: one per column of the staging table, each of n rows.
    """
    yield memoryview(HEADER)
    lengths = np.stack([field.lengths for field in fields], axis=1)
    for shape, rows in _alike(lengths):
        yield _rows(fields, shape, rows).reshape(-1).data
    yield memoryview(TRAILER)


def binary_array(field: Field, oid: int) -> bytes:
    """Makes a one-dimensional array of type ``oid`` in row order, in the format of ``array_recv``."""
    lengths = field.lengths
    sizes = 4 + np.maximum(lengths, 0)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    body = np.empty(int(starts[-1]), np.uint8)
    for (length,), rows in _alike(lengths[:, None]):
        element = np.empty((len(lengths) if rows is None else len(rows), 4 + max(int(length), 0)), np.uint8)
        element[:, :4] = _int32(int(length))
        if length > 0:
            element[:, 4:] = _gather(field, rows, int(length))
        if rows is None:
            body = element.reshape(-1)
        else:
            body[starts[rows][:, None] + np.arange(element.shape[1])] = element
    return _array_header(len(lengths), oid, null=bool(field.null.any())) + body.tobytes()


def number_arrays(vectors: npt.NDArray[np.float32], null: npt.NDArray[np.bool_], kind: str) -> tuple[bytes, bytes]:
    """Makes two arrays from the vectors: the offset of each row's numbers (NULL: no vector), and all numbers.

    PostgreSQL has no array of arrays; slicing one long array takes constant time.
    """
    n, dim = vectors.shape
    at = _rectangle((np.arange(n, dtype=np.int64) * dim).astype(">i4").view(np.uint8).reshape(n, 4), null)
    oid, form = _NUMBERS[kind]
    numbers = _rectangle(vectors.astype(form).view(np.uint8).reshape(n * dim, -1))
    return binary_array(at, INT4_OID), binary_array(numbers, oid)


def _array_header(n: int, oid: int, *, null: bool = False) -> bytes:
    """Number of dimensions, has-NULL flag, element type; then length and lower bound, unless the array is empty."""
    return np.array([1, null, oid, n, 1] if n else [0, 0, oid], ">i4").tobytes()


def _alike(lengths: Lengths) -> Iterator[tuple[Lengths, Lengths | None]]:
    """Yields each combination of lengths with its rows; None means all rows, so no row selection is needed."""
    if len(lengths) and (lengths == lengths[0]).all():
        yield lengths[0], None
        return
    shapes, group = np.unique(lengths, axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[order], np.arange(len(shapes) + 1))
    for shape, start, end in zip(shapes, edges[:-1], edges[1:], strict=True):
        yield shape, order[start:end]


def _rows(fields: Sequence[Field], shape: Lengths, rows: Lengths | None) -> Bytes:
    """uint8 [rows, width]: the COPY tuples of rows with field lengths ``shape``."""
    n = len(fields[0].null) if rows is None else len(rows)
    out = np.empty((n, 2 + int(np.sum(4 + np.maximum(shape, 0)))), np.uint8)
    out[:, :2] = _int16(len(fields))
    at = 2
    for field, length in zip(fields, shape, strict=True):
        out[:, at : at + 4] = _int32(int(length))
        at += 4
        if length > 0:
            out[:, at : at + length] = _gather(field, rows, int(length))
            at += int(length)
    return out


def _gather(field: Field, rows: Lengths | None, length: int) -> Bytes:
    """uint8 [rows, length]: the fields of ``rows``; a plain reshape if all fields have this length."""
    if rows is None or (np.diff(field.offsets) == length).all():
        whole = field.data[field.offsets[0] : field.offsets[-1]].reshape(-1, length)
        return whole if rows is None else whole[rows]
    windows = np.lib.stride_tricks.sliding_window_view(field.data, length)
    picked: Bytes = windows[field.offsets[rows]]
    return picked


def _rectangle(data: Bytes, null: npt.NDArray[np.bool_] | None = None) -> Field:
    n, width = data.shape
    return Field(
        data.reshape(-1), np.arange(n + 1, dtype=np.int64) * width, np.zeros(n, np.bool_) if null is None else null
    )


def _vector(vectors: npt.NDArray[np.float32]) -> Bytes:
    return _with_header(vectors, ">f4")


def _halfvec(vectors: npt.NDArray[np.float32]) -> Bytes:
    with np.errstate(over="ignore"):
        return _with_header(vectors, ">f2")


def _with_header(vectors: npt.NDArray[np.float32], kind: str) -> Bytes:
    """Casts directly into the output: each extra pass over megabytes costs a millisecond a batch."""
    n, dim = vectors.shape
    out = np.empty(n, [("dim", ">i2"), ("zero", ">i2"), ("values", kind, (dim,))])
    out["dim"], out["zero"], out["values"] = dim, 0, vectors
    return out.view(np.uint8).reshape(n, out.itemsize)


def _number_array(vectors: npt.NDArray[np.float32], kind: str) -> Bytes:
    """Header of one dimension, no NULLs, type of a number, lower bound 1; then each number after its length."""
    n, dim = vectors.shape
    oid, form = _NUMBERS[kind]
    width = np.dtype(form).itemsize
    out = np.empty((n, 20 + dim * (4 + width)), np.uint8)
    out[:, :20] = np.frombuffer(_array_header(dim, oid), np.uint8)
    elements = out[:, 20:].reshape(n, dim, 4 + width)
    elements[:, :, :4] = _int32(width)
    elements[:, :, 4:] = vectors.astype(form).view(np.uint8).reshape(n, dim, width)
    return out


def _int16(value: int) -> Bytes:
    return np.frombuffer(value.to_bytes(2, "big"), np.uint8)


def _int32(value: int) -> Bytes:
    return np.frombuffer(value.to_bytes(4, "big", signed=True), np.uint8)
