"""The Arrow blocks that flow through the pipeline: text in, vectors through, counts out.

A stage is a callable that takes one block and gives one block. The key columns come first and are named ``key0``,
``key1``, …: each holds the binary field that the server itself made of the value (``typsend``), so that a key of any
type travels unread. Three columns carry time: ``read_s`` and ``encode_s`` are the seconds that a stage spent on the
block, ``load_s`` those in which the model was loaded for it; they are shared evenly among its rows, so that sums stay
true however blocks are cut or joined.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

HASH_BYTES = 16
"""Bytes of a text's SHA-256 that are kept: 2^-64 chance of a false match among 2^32 texts."""

ERROR_COLUMNS: list[pa.Field] = [pa.field("error_class", pa.string()), pa.field("error", pa.string())]


def key_names(arity: int) -> list[str]:
    """Names of the ``arity`` key columns of every block: key0, key1 and so on."""
    return [f"key{position}" for position in range(arity)]


def key_fields(arity: int) -> list[pa.Field]:
    """Arrow fields of the key columns: opaque binary, never null."""
    return [pa.field(name, pa.binary(), nullable=False) for name in key_names(arity)]


def text_schema(arity: int) -> pa.Schema:
    """Schema of a TextBlock: ``state`` says why the reader took the row, such as ``missing``."""
    return pa.schema(
        [
            *key_fields(arity),
            pa.field("text", pa.large_string(), nullable=False),
            pa.field("text_hash", pa.binary(HASH_BYTES), nullable=False),
            pa.field("state", pa.string(), nullable=False),
            pa.field("read_s", pa.float32(), nullable=False),
        ]
    )


def encoded_schema(arity: int, dim: int) -> pa.Schema:
    """Schema of an EncodedBlock: ``embedding`` is null where the row failed, and then ``error`` says why.

    ``n_tokens`` counts the text's tokens before truncation, special tokens and prompt included, and is null where
    the encoder has no tokenizer; ``truncated`` is true where it passed the model's length, ``reused`` where the vector
    is that of an equal text and the model was not asked. ``device`` and ``dtype`` say where and how the model computed.
    """
    return pa.schema(
        [
            *key_fields(arity),
            pa.field("text_hash", pa.binary(HASH_BYTES), nullable=False),
            pa.field("state", pa.string(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), dim)),
            pa.field("n_tokens", pa.int32()),
            pa.field("truncated", pa.bool_(), nullable=False),
            pa.field("reused", pa.bool_(), nullable=False),
            *ERROR_COLUMNS,
            pa.field("device", pa.string(), nullable=False),
            pa.field("dtype", pa.string(), nullable=False),
            pa.field("read_s", pa.float32(), nullable=False),
            pa.field("load_s", pa.float32(), nullable=False),
            pa.field("encode_s", pa.float32(), nullable=False),
        ]
    )


OUTCOMES = ("updated", "stale", "filled", "gone", "locked", "refused", "failed")
"""What became of a row that was read; the server says which (DESIGN 5). ``failed`` rows never got a vector."""


@dataclass(frozen=True)
class UnwrittenRow:
    """A row that was read and not updated: its key in the server's own text, the outcome, and the reason.

    The fields of ``UNWRITTEN``, in order.
    """

    key: str
    outcome: str
    error_class: str | None = None
    error: str | None = None


UNWRITTEN = pa.list_(
    pa.field(
        "item",
        pa.struct(
            [
                pa.field("key", pa.string()),
                pa.field("outcome", pa.string()),
                pa.field("error_class", pa.string()),
                pa.field("error", pa.string()),
            ]
        ),
    )
)
"""Rows that are not ``updated``, by the server's own text of their key."""

RESULT_SCHEMA = pa.schema(
    [
        *(pa.field(outcome, pa.int64(), nullable=False) for outcome in OUTCOMES),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("truncated", pa.int64(), nullable=False),
        pa.field("reused", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("device", pa.string(), nullable=False),
        pa.field("dtype", pa.string(), nullable=False),
        pa.field("read_s", pa.float64(), nullable=False),
        pa.field("load_s", pa.float64(), nullable=False),
        pa.field("encode_s", pa.float64(), nullable=False),
        pa.field("write_s", pa.float64(), nullable=False),
        pa.field("unwritten", UNWRITTEN, nullable=False),
    ]
)
"""Schema of a WriteResult: one row a write batch. ``bytes`` counts what COPY sent; ``*_s`` are seconds of work."""
