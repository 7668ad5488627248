"""Assembles an EncodedBlock from a TextBlock and the vectors of its texts."""

from __future__ import annotations

import pyarrow as pa

from vecfill.arrow_arrays import arrow_array, arrow_scalar
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
        "embedding": arrow_array(rows.vectors, schema.field("embedding").type, ~rows.failed()),
        "n_tokens": arrow_array(rows.n_tokens, pa.int32(), rows.counted),
        "truncated": arrow_array(rows.truncated, pa.bool_()),
        "tokens_by": arrow_array(rows.tokens_by, pa.int8()),
        "windows": arrow_array(rows.windows, pa.int32()),
        "reused": arrow_array(reused, pa.bool_()),
        **dict(zip(("error_class", "error"), _errors(rows), strict=True)),
        "device": pa.repeat(arrow_scalar(encoder.device, pa.string()), n),
        "dtype": pa.repeat(arrow_scalar(encoder.dtype, pa.string()), n),
        "encoder": pa.repeat(arrow_scalar(encoder.way, pa.string()), n),
        "load_s": pa.repeat(arrow_scalar(load_s / max(n, 1), pa.float32()), n),
        "encode_s": pa.repeat(arrow_scalar(encode_s / max(n, 1), pa.float32()), n),
    }
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _errors(rows: Encoding) -> tuple[pa.Array, pa.Array]:
    """Error class and message of each row; null if it has a vector."""
    pairs = [rows.errors.get(row, (None, None)) for row in range(len(rows.vectors))]
    kinds, errors = zip(*pairs, strict=True) if pairs else ((), ())
    return arrow_array(kinds, pa.string()), arrow_array(errors, pa.string())
