"""Assembles an EncodedBlock from a TextBlock and the vectors of its texts."""

from __future__ import annotations

import pyarrow as pa

from vecfill.blocks import encoded_schema, key_names
from vecfill.encode.encoder import Encoder
from vecfill.encode.encoding import Encoding, Flags


def encoded_block(
    table: pa.Table,
    arity: int,
    encoder: Encoder,
    rows: Encoding,
    *,
    reused: Flags,
    load_s: float,
    encode_s: float,
) -> pa.Table:
    """Assembles the EncodedBlock: copies keys, hash and read time, divides our own seconds among the rows."""
    n = table.num_rows
    schema = encoded_schema(arity, encoder.dim)
    columns = {
        **{name: table.column(name) for name in (*key_names(arity), "text_hash", "state", "read_s")},
        "embedding": _embeddings(schema.field("embedding").type, rows),
        "n_tokens": pa.array(rows.n_tokens, mask=~rows.counted),
        "truncated": pa.array(rows.truncated),
        "tokens_by": pa.array(rows.tokens_by),
        "windows": pa.array(rows.windows),
        "reused": pa.array(reused),
        **dict(zip(("error_class", "error"), _errors(rows), strict=True)),
        "device": pa.repeat(encoder.device, n),
        "dtype": pa.repeat(encoder.dtype, n),
        "encoder": pa.repeat(encoder.way, n),
        "load_s": pa.repeat(pa.scalar(load_s / max(n, 1), pa.float32()), n),
        "encode_s": pa.repeat(pa.scalar(encode_s / max(n, 1), pa.float32()), n),
    }
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _errors(rows: Encoding) -> tuple[pa.Array, pa.Array]:
    """Error class and message of each row; null if it has a vector."""
    pairs = [rows.errors.get(row, (None, None)) for row in range(len(rows.vectors))]
    return pa.array([kind for kind, _ in pairs], pa.string()), pa.array([error for _, error in pairs], pa.string())


def _embeddings(vector_type: pa.DataType, rows: Encoding) -> pa.FixedSizeListArray:
    """Wraps the matrix without copying it; rows that failed are null."""
    failed = rows.failed()
    mask = pa.array(failed) if failed.any() else None
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.reshape(-1)), type=vector_type, mask=mask)
