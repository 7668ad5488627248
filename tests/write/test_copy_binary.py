"""COPY bytes and arrays against the server: what it holds is, in its own words, what was sent."""

from __future__ import annotations

import datetime as dt
import itertools
from decimal import Decimal

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.tables import on_server

from vecfill.write.copy_binary import (
    HEADER,
    TRAILER,
    Field,
    binary_array,
    binary_field,
    copy_stream,
    int4_field,
    number_arrays,
    vector_field,
)
from vecfill.write.staging import BinaryValue, accept_binary_values

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.integers(0, 3_000).map(
    "x".__mul__
)
KEYS = {
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "uuid": st.uuids(),
    "text": texts,
    "varchar(4000)": texts,
    "short": texts.map(lambda text: text[:40] or "-"),
    "positive": st.integers(1, 2**63 - 1),
    "bytea": st.binary(max_size=300),
    "numeric": st.decimals(allow_nan=False, allow_infinity=True) | st.just(Decimal("NaN")),
    "date": st.dates(),
    "timestamptz": st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=st.just(dt.UTC)),
    "boolean": st.booleans(),
    "mood": st.sampled_from(["", "so so", "über 'glücklich'"]),
}
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
halves = st.floats(width=16, allow_nan=False, allow_infinity=False)


@pytest.fixture(autouse=True)
def mood(connect):
    connect.execute("CREATE TYPE mood AS ENUM ('', 'so so', 'über ''glücklich''')")
    connect.execute("CREATE DOMAIN short AS varchar(40) CHECK (value <> '')")
    connect.execute("CREATE DOMAIN positive AS bigint NOT NULL CHECK (value > 0)")
    accept_binary_values(connect)


def sent_as(connect: psycopg.Connection, kind: str, values: list) -> tuple[pa.Array, list[str]]:
    """The server's binary fields of the values, as the reader takes them, and its text of each."""
    query = "SELECT (SELECT typsend FROM pg_type WHERE oid = %s::regtype)::text"
    send = connect.execute(query, [kind]).fetchone()[0]
    rows = [
        connect.execute(f"SELECT {send}(v), v::text FROM (SELECT %s::{kind} AS v) AS x", [value]).fetchone()
        for value in values
    ]
    return pa.array([row[0] for row in rows], pa.binary()), [row[1] for row in rows]


def copied(connect: psycopg.Connection, kinds: list[str], fields: list) -> list[tuple]:
    """COPYs the fields into a temporary table and returns the rows in the server's words, in the order of ``n``."""
    columns = [f"c{position}" for position in range(len(kinds))]
    with connect.transaction(force_rollback=True), connect.cursor() as cursor:
        types = ", ".join(f"{name} {kind}" for name, kind in zip(columns, kinds, strict=True))
        connect.execute(f"CREATE TEMP TABLE stage (n int4, {types})")
        with cursor.copy("COPY stage FROM STDIN (FORMAT BINARY)") as copy:
            for buffer in copy_stream([int4_field(np.arange(rows_of(fields), dtype=np.int32)), *fields]):
                copy.write(buffer)
        assert cursor.rowcount == rows_of(fields)
        names = ", ".join(f"{name}::text" for name in columns)
        return cursor.execute(f"SELECT {names} FROM stage ORDER BY n").fetchall()


def as_arrays(connect: psycopg.Connection, kinds: list[str], fields: list[Field]) -> list[tuple]:
    """Sends the fields as one array each and returns the rows in the server's words, in their order."""
    columns = [f"c{position}" for position in range(len(kinds))]
    arrays = ", ".join(f"%b::{kind}[]" for kind in kinds)
    values = [
        BinaryValue(binary_array(field, connect.execute("SELECT %s::regtype::oid::int8", [kind]).fetchone()[0]))
        for kind, field in zip(kinds, fields, strict=True)
    ]
    names = ", ".join(f"{name}::text" for name in columns)
    query = f"SELECT {names} FROM unnest({arrays}) WITH ORDINALITY AS stage ({', '.join(columns)}, n) ORDER BY n"
    return connect.execute(query, values).fetchall()


both_ways = pytest.mark.parametrize("way", [copied, as_arrays], ids=["copy", "arrays"])


def rows_of(fields: list) -> int:
    return len(fields[0].null)


@both_ways
@pytest.mark.parametrize("kind", KEYS)
def test_keys_arrive_as_they_were_sent(connect, kind, way):
    @on_server
    @given(st.lists(KEYS[kind], min_size=1, max_size=12))
    def check(values):
        column, words = sent_as(connect, kind, values)
        assert way(connect, [kind], [binary_field(column)]) == [(word,) for word in words]

    check()


@both_ways
@pytest.mark.parametrize(("one", "other"), list(itertools.pairwise([*KEYS, "bigint"])))
def test_composite_keys_arrive_together(connect, one, other, way):
    @settings(on_server, max_examples=10)
    @given(st.lists(st.tuples(KEYS[one], KEYS[other]), min_size=1, max_size=8))
    def check(pairs):
        (first, words), (second, more) = (
            sent_as(connect, kind, list(values))
            for kind, values in zip((one, other), zip(*pairs, strict=True), strict=True)
        )
        fields = [binary_field(first), binary_field(second)]
        assert way(connect, [one, other], fields) == list(zip(words, more, strict=True))

    check()


@st.composite
def matrices(draw, elements) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 40)))
    vectors = draw(arrays.arrays(np.float32, shape, elements=elements))
    return vectors, draw(arrays.arrays(np.bool_, shape[0]))


def array_parts(connect: psycopg.Connection, kind: str, vectors: np.ndarray, null: np.ndarray) -> list[tuple]:
    """Sends vectors as parts of one long array, and returns them in the server's words."""
    at, numbers = map(BinaryValue, number_arrays(vectors, null, kind))
    query = f"SELECT (%b::{kind})[at + 1 : at + %s]::text FROM unnest(%b::int4[]) WITH ORDINALITY AS a (at, n)"
    return connect.execute(f"{query} ORDER BY n", [numbers, vectors.shape[1], at]).fetchall()


SENT = {
    "vector": (finite, copied),
    "halfvec": (halves, copied),
    "real[]": (finite, copied),
    "vector, arrays": (finite, as_arrays),
    "halfvec, arrays": (halves, as_arrays),
    "double precision[]": (finite, copied),
    "real[], arrays": (finite, None),
    "double precision[], arrays": (finite, None),
}


@pytest.mark.parametrize("sent", SENT)
def test_vectors_arrive_bit_by_bit(connect, sent):
    """Against the server's own cast of the numbers; NULL rows stay NULL, whatever lies under them."""
    kind, (elements, way) = sent.partition(",")[0], SENT[sent]

    @on_server
    @given(matrices(elements))
    def check(case):
        vectors, null = case
        rows = (
            way(connect, [kind], [vector_field(vectors, null, kind)])
            if way
            else array_parts(connect, kind, vectors, null)
        )
        found = [word for (word,) in rows]
        expected = [
            None if gone else connect.execute(f"SELECT %b::real[]::{kind}::text", [row.tolist()]).fetchone()[0]
            for row, gone in zip(vectors, null, strict=True)
        ]
        assert found == expected

    check()


def test_halfvec_rounds_as_the_server_does(connect):
    numbers = np.float32([65504, 65519.99, 1 / 3, 2**-24, 2**-25 * 1.0001, -2e-8, 1e-45, 0.1, 2049, 2051]).reshape(
        1, -1
    )
    found = copied(connect, ["halfvec"], [vector_field(numbers, np.zeros(1, np.bool_), "halfvec")])
    assert found == connect.execute("SELECT %b::real[]::halfvec::text", [numbers[0].tolist()]).fetchall()


def test_slices_and_chunks_keep_their_rows(connect):
    """A sliced Arrow array has an offset that its buffers do not show."""
    column = pa.array([f"{'k' * (n % 7)}{n}".encode() for n in range(100)])
    fixed = pa.array([n.to_bytes(16, "big") for n in range(100)], pa.binary(16))
    for start, length in ((0, 100), (3, 50), (99, 1), (50, 50)):
        fields = [binary_field(column[start : start + length]), binary_field(fixed[start : start + length])]
        found = copied(connect, ["text", "bytea"], fields)
        assert [word for word, _ in found] == [value.decode() for value in column[start : start + length].to_pylist()]
        assert [int(word[2:], 16) for _, word in found] == list(range(start, start + length))


def test_a_stream_without_rows_is_header_and_trailer(connect):
    fields = [
        binary_field(pa.array([], pa.binary())),
        vector_field(np.empty((0, 3), np.float32), np.empty(0, bool), "vector"),
    ]
    assert b"".join(copy_stream(fields)) == HEADER + TRAILER
    assert copied(connect, ["text", "vector"], fields) == []


def test_arrays_keep_the_order_of_rows_of_any_length(connect):
    keys = [b"d" * 13, b"", b"a", b"ccccc", b"b", b"ccccC"]
    for some in (keys, keys[1:4], keys[:1], []):
        field = binary_field(pa.array(some, pa.binary()))
        assert [word.encode() for (word,) in as_arrays(connect, ["text"], [field])] == some


def test_lengths_that_only_add_up_to_a_rectangle(connect):
    """Keys of 1, 1, 5 and 13 bytes are as many bytes as four of 5."""
    keys = [b"a", b"b", b"ccccc", b"d" * 13]
    found = copied(connect, ["text"], [binary_field(pa.array(keys))])
    assert [word.encode() for (word,) in found] == keys
