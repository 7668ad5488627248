"""Every eligible row once, with the text that Python would make of it: on still tables of any shape, in any way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.tables import DOCS, ranges_of, read_all, relation_of, survey_of

import vecfill.read.leaf_count
import vecfill.read.partial_index
import vecfill.read.survey
import vecfill.read.units
from vecfill.postgres.template import WHITE_SPACE
from vecfill.read.units import MAX_BLOCK_BYTES

TEMPLATE = "{title}: \\n{company}"
storable = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
blank = st.text(st.sampled_from(WHITE_SPACE), max_size=4)
long = st.builds(lambda text, times: text * times, storable.filter(bool), st.sampled_from([50, 2_000]))
values = st.none() | blank | storable | long


@dataclass(frozen=True)
class Shape:
    """A table: rows (title, company, whether it has a vector), and what happened to it since."""

    rows: list[tuple[str | None, str | None, bool]]
    partitioned: bool
    index: bool
    gone: int
    moved: int
    bulk: int
    limit: int | None


shapes = st.builds(
    Shape,
    st.lists(st.tuples(values, values, st.booleans()), max_size=30),
    partitioned=st.booleans(),
    index=st.booleans(),
    gone=st.integers(2, 9),
    moved=st.integers(2, 9),
    bulk=st.sampled_from([0, 0, 700]),
    limit=st.none() | st.integers(1, 40),
)


def make(connect: psycopg.Connection, shape: Shape) -> None:
    connect.execute("DROP TABLE IF EXISTS docs")
    connect.execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, title text, company text, note text, embedding vector(8))"
        + (" PARTITION BY RANGE (id)" if shape.partitioned else "")
    )
    if shape.partitioned:
        connect.execute("CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (10)")
        connect.execute("CREATE TABLE docs_2 PARTITION OF docs DEFAULT")
    if shape.index:
        connect.execute("CREATE INDEX ON docs (id) WHERE embedding IS NULL")
    vector = str([0.5] * 8)
    with connect.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO docs VALUES (%s, %s, %s, 'n', %s)",
            [(n, title, company, vector if has else None) for n, (title, company, has) in enumerate(shape.rows)],
        )
    connect.execute(
        "INSERT INTO docs SELECT n, 'title ' || n, repeat('c', n %% 40), repeat('n', n %% 300),"
        " CASE WHEN n %% 3 = 0 THEN %s::vector END FROM generate_series(1000, 999 + %s) n",
        [vector, shape.bulk],
    )
    connect.execute("DELETE FROM docs WHERE id %% %s = 1", [shape.gone])
    connect.execute("UPDATE docs SET note = note || repeat('m', 2500) WHERE id %% %s = 0", [shape.moved])


def reference(connect: psycopg.Connection) -> tuple[dict[bytes, tuple[str, bytes]], int]:
    """Key → text and hash of what is to be read, by Python alone; and how many rows have nothing to embed."""
    found, empty = {}, 0
    for key, *fields in connect.execute("SELECT int8send(id), title, company FROM docs WHERE embedding IS NULL"):
        title, company = (value or "" for value in fields)
        if (title + company).strip(WHITE_SPACE):
            text = f"{title}: \n{company}"
            found[key] = text, hashlib.sha256(text.encode()).digest()[:16]
        else:
            empty += 1
    return found, empty


@contextmanager
def block_bytes(size: int) -> Iterator[None]:
    with (
        patch.object(vecfill.read.leaf_count, "MAX_BLOCK_BYTES", size),
        patch.object(vecfill.read.units, "MAX_BLOCK_BYTES", size),
    ):
        yield


PLAIN = Shape(rows=[], partitioned=False, index=False, gone=5, moved=5, bulk=700, limit=None)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes, st.sampled_from([100, 5_000, MAX_BLOCK_BYTES]), st.sampled_from([1, 20, 512]))
@example(PLAIN, 100, 512)  # cut between the rows of a page
@example(PLAIN, MAX_BLOCK_BYTES, 1)  # many ranges of whole pages
@example(replace(PLAIN, partitioned=True), 5_000, 20)
@example(replace(PLAIN, index=True), MAX_BLOCK_BYTES, 20)  # listed
@example(replace(PLAIN, index=True, partitioned=True, limit=40), 100, 20)
def test_every_eligible_row_comes_once_with_its_text(connect, database, shape, size, rows):
    make(connect, shape)
    expected, empty = reference(connect)
    relation = relation_of(database, replace(DOCS, text=TEMPLATE))
    with (
        patch.object(vecfill.read.survey, "SMALL_PAGES", 0),
        patch.object(vecfill.read.partial_index, "PAGES_PER_ROW", 0.01),
        patch.object(vecfill.read.units, "MIN_BLOCK_ROWS", rows),
        block_bytes(size),
    ):
        found = survey_of(database, relation)
        ranges = ranges_of(database, relation, shape.limit)
    block = read_all(database, relation, ranges)
    assert (found.coverage.missing, found.coverage.empty) == (len(expected), empty)
    keys, *read = (block[name].to_pylist() for name in ("key0", "text", "text_hash"))
    found = {key: tuple(one) for key, *one in zip(keys, *read, strict=True)}
    assert len(found) == len(keys)
    if shape.limit is None:
        assert found == expected
    else:  # where a bucket was split evenly, a part may hold more than its share: a later sweep takes the rest
        assert found.items() <= expected.items()
        assert len(found) <= shape.limit
    assert sum(one.rows for one in ranges) == min(len(expected), shape.limit or len(expected))


@pytest.mark.parametrize(
    ("texts", "bound", "partitioned"),
    [
        ((340, 30_000), 4 << 20, False),
        ((340, 30_000), 4 << 20, True),
        pytest.param((60, 1_000_000), MAX_BLOCK_BYTES, False, marks=pytest.mark.slow),
    ],
)
def test_big_texts_on_few_pages_come_in_blocks_of_bounded_bytes(connect, database, texts, bound, partitioned):
    """Texts out of line leave 100 rows and more to a page: read by the page they were one block."""
    rows, size = texts
    make(connect, replace(PLAIN, bulk=0, partitioned=partitioned))
    for table in ("docs_1", "docs_2") if partitioned else ("docs",):
        connect.execute(f"ALTER TABLE {table} ALTER title SET STORAGE EXTERNAL")
    connect.execute(
        "INSERT INTO docs SELECT n, repeat(chr(97 + n %% 26), %s), '', '' FROM generate_series(100, %s) n",
        [size, 99 + rows],
    )
    relation = relation_of(database)
    assert max(leaf.pages for leaf in relation.table.leaves) <= 8
    with block_bytes(bound):
        ranges = ranges_of(database, relation)
    blocks = [read_all(database, relation, [one]) for one in ranges]
    assert sum(block.num_rows for block in blocks) == rows
    assert [block.num_rows for block in blocks] == [one.rows for one in ranges]
    sizes = [sum(map(len, block["text"].to_pylist())) for block in blocks]
    assert max(sizes) <= bound
    assert len(blocks) <= 2 * -(-rows * size // bound) + 1


def test_one_text_beyond_the_bound_is_a_block_of_its_own(connect, database):
    make(connect, replace(PLAIN, bulk=0))
    connect.execute("ALTER TABLE docs ALTER title SET STORAGE EXTERNAL")
    connect.execute(
        "INSERT INTO docs SELECT n, repeat('x', CASE n WHEN 50 THEN 100001 ELSE 10 END), '', ''"
        " FROM generate_series(1, 100) n"
    )
    relation = relation_of(database)
    with block_bytes(100_000):
        ranges = ranges_of(database, relation)
    assert [read_all(database, relation, [one]).num_rows for one in ranges] == [50, 50]
