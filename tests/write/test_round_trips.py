"""A batch waits for the line as seldom as can be, and a long line makes no batch small."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from typing import Any

import psycopg
import pytest
from tests.costs import TRIPS_OF_A_BATCH, TRIPS_OF_A_BATCH_AS_ARRAYS, TRIPS_OF_A_BLOCK_READ
from tests.delay import delayed
from tests.tables import encoded, job_of, make_docs, reader_of, with_arrays, writer_of

from vecfill.postgres import write_sql
from vecfill.postgres.database import Database
from vecfill.postgres.selection import MISSING
from vecfill.postgres.transaction import transaction
from vecfill.read.units import PageRange
from vecfill.write.batch import Batch
from vecfill.write.batch_size import START_ROWS
from vecfill.write.staging import opening_statement, stage_batch
from vecfill.write.write_batch import write_batch


def trips(connection: psycopg.Connection, work: Callable[[], Any]) -> int:
    """How often the client stops to wait for an answer, by libpq's own trace."""
    with tempfile.TemporaryFile("w+") as file:
        connection.pgconn.trace(file.fileno())
        try:
            work()
        finally:
            connection.pgconn.untrace()
        file.seek(0)
        directions = [line.split("\t")[1] for line in file if line.count("\t") > 1]
    return sum(direction == "F" for direction, _ in groupby(directions))


@contextmanager
def connected(database: str) -> Iterator[psycopg.Connection]:
    with closing(Database(database).connect()) as connection:
        yield connection


@pytest.mark.parametrize(
    ("arrays", "trips_of_a_batch"), [(False, TRIPS_OF_A_BATCH), (True, TRIPS_OF_A_BATCH_AS_ARRAYS)]
)
def test_a_batch(connect, database, arrays, trips_of_a_batch):
    make_docs(connect, 50)
    job = job_of(database)
    batch = Batch.from_block(encoded(job), "vector")
    relation = with_arrays(job.sink.relation, arrays=arrays)
    with connected(database) as connection:
        assert trips(connection, lambda: write_batch(connection, relation, MISSING, batch)) == trips_of_a_batch
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone() == (50,)


def test_a_block_that_is_read(connect, database):
    make_docs(connect, 50)
    job = job_of(database)
    pages = PageRange(leaf=0, first_page=0, end_page=None, rows=50)
    with closing(reader_of(job.sink.database, job.sink.relation)) as read:
        connection = read._session._open()
        assert trips(connection, lambda: read(pages)) == TRIPS_OF_A_BLOCK_READ


@pytest.mark.slow
def test_a_long_line_makes_no_batch_small(connect, database):
    """Five round trips of 0.15 s are longer than rows may stay locked, and smaller batches would not shorten them."""
    make_docs(connect, START_ROWS)
    job = job_of(database)
    block = encoded(job)
    with delayed(Database(database), 0.15) as far, closing(writer_of(job, job.sink.relation, database=far)) as write:
        assert write(block)["updated"].to_pylist() == [START_ROWS]
        assert write._size.rows > START_ROWS


def test_no_batch_reads_the_target_whole(connect, database):
    """The planner cannot know how many rows a temporary table has, and must not take them for many."""
    make_docs(connect, 20_000)
    connect.execute("ANALYZE docs")
    job = job_of(database)
    batch = Batch.from_block(encoded(job).slice(0, 2_000), "vector")
    with (
        connected(database) as connection,
        transaction(
            connection, job.sink.relation.access.settings, first=opening_statement(job.sink.relation)
        ) as cursor,
    ):
        stage_batch(cursor, job.sink.relation, batch)
        plan = [
            line
            for (line,) in cursor.execute(
                b"EXPLAIN " + write_sql.write(MISSING, job.sink.relation).as_bytes(), (2_000,)
            )
        ]
        connection.rollback()
    (locked,) = [at for at, line in enumerate(plan) if "LockRows" in line]
    assert "Nested Loop" in plan[locked + 1]
    assert any("Index Scan using docs_pkey" in line for line in plan[locked : locked + 5])
