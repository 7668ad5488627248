"""The Arrow blocks of the pipeline: texts, vectors, counts.

A stage is a callable that takes one block and returns one block. The key columns come first and are named ``key0``,
``key1``, …: each holds the server's binary form of the value (``typsend``), so a key of any type passes through without
being decoded. Three columns hold times: ``read_s`` and ``encode_s`` are the seconds that a stage spent on the block,
``load_s`` the seconds to load the model for it. They are divided equally among its rows, so that sums stay correct
however blocks are split or joined.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

HASH_BYTES = 16
"""Bytes of a text's SHA-256 in use: the chance of a false match among 2^32 texts is 2^-64."""

ERROR_COLUMNS: list[pa.Field] = [pa.field("error_class", pa.string()), pa.field("error", pa.string())]


UNREAD = "cannot be read: "
"""How the ``error`` of a row begins that the read stage could not read."""


def key_names(arity: int) -> list[str]:
    """Returns the names of ``arity`` key columns: ``key0``, ``key1`` and so on."""
    return [f"key{position}" for position in range(arity)]


def key_fields(arity: int) -> list[pa.Field]:
    """Returns the Arrow fields of the key columns: opaque binary, never null."""
    return [pa.field(name, pa.binary(), nullable=False) for name in key_names(arity)]


def text_schema(arity: int) -> pa.Schema:
    """Returns the schema of a TextBlock. ``state`` is the reason why the row was read, such as ``missing``.

    A row that cannot be read has an empty text, and ``error`` has the reason.
    """
    return pa.schema(
        [
            *key_fields(arity),
            pa.field("text", pa.large_string(), nullable=False),
            pa.field("text_hash", pa.binary(HASH_BYTES), nullable=False),
            pa.field("state", pa.string(), nullable=False),
            *ERROR_COLUMNS,
            pa.field("read_s", pa.float32(), nullable=False),
        ]
    )


def encoded_schema(arity: int, dim: int) -> pa.Schema:
    """Returns the schema of an EncodedBlock. In a failed row ``embedding`` is null and ``error`` has the reason.

    ``n_tokens`` counts the text's tokens before truncation, including special tokens and prompt; of a text of more than
    65,536 characters perhaps only those of its beginning. It is null if the encoder has no tokenizer. ``truncated``
    marks a text longer than the model's limit whose end was left out; ``windows`` is 1, or the number of windows that a
    long text was embedded by. ``tokens_by`` is one of ``TokensBy``. ``reused`` marks a vector copied from an equal text
    without running the model. ``device`` and ``dtype`` are those of the model, ``encoder`` says who computed (see
    ``Encoder.way``).
    """
    return pa.schema(
        [
            *key_fields(arity),
            pa.field("text_hash", pa.binary(HASH_BYTES), nullable=False),
            pa.field("state", pa.string(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), dim)),
            pa.field("n_tokens", pa.int32()),
            pa.field("truncated", pa.bool_(), nullable=False),
            pa.field("tokens_by", pa.int8(), nullable=False),
            pa.field("windows", pa.int32(), nullable=False),
            pa.field("reused", pa.bool_(), nullable=False),
            *ERROR_COLUMNS,
            pa.field("device", pa.string(), nullable=False),
            pa.field("dtype", pa.string(), nullable=False),
            pa.field("encoder", pa.string(), nullable=False),
            pa.field("read_s", pa.float32(), nullable=False),
            pa.field("load_s", pa.float32(), nullable=False),
            pa.field("encode_s", pa.float32(), nullable=False),
        ]
    )


OUTCOMES = ("updated", "stale", "filled", "gone", "locked", "refused", "failed")
"""Outcomes of a row that was read, decided by the server (DESIGN 5). ``failed`` rows never had a vector."""


@dataclass(frozen=True)
class UnwrittenRow:
    """A row that was read but not updated: its key as text from the server, the outcome, and the reason.

    Its fields are those of ``UNWRITTEN``, in order.
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
"""Arrow type of the rows not ``updated``, with their keys as text from the server."""

RESULT_SCHEMA = pa.schema(
    [
        *(pa.field(outcome, pa.int64(), nullable=False) for outcome in OUTCOMES),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("truncated", pa.int64(), nullable=False),
        pa.field("tokens_by", pa.list_(pa.int64()), nullable=False),
        pa.field("windowed", pa.int64(), nullable=False),
        pa.field("windows", pa.int64(), nullable=False),
        pa.field("reused", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("device", pa.string(), nullable=False),
        pa.field("dtype", pa.string(), nullable=False),
        pa.field("encoder", pa.string(), nullable=False),
        pa.field("read_s", pa.float64(), nullable=False),
        pa.field("load_s", pa.float64(), nullable=False),
        pa.field("encode_s", pa.float64(), nullable=False),
        pa.field("write_s", pa.float64(), nullable=False),
        pa.field("unwritten", UNWRITTEN, nullable=False),
    ]
)
"""Schema of a WriteResult: one row a write batch. ``tokens_by`` counts rows by the encoded block's column of that name,
``windows`` are those of the ``windowed`` rows, ``bytes`` those that COPY sent; ``*_s`` are seconds of work."""
