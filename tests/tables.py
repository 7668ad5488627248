"""What the tests share: tables to fill, the stages made for them, and the independent check of the vectors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np
import psycopg
import pyarrow as pa
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from vecfill.backfill.run import RunOptions
from vecfill.blocks import OUTCOMES
from vecfill.encode.hash_encoder import HashEncoder
from vecfill.encode.spec import Model
from vecfill.encode.stage import Encode, EncodeSpec
from vecfill.engine.choice import EngineOptions
from vecfill.engine.inline import InlineEngine
from vecfill.job import Job
from vecfill.postgres.session import Database
from vecfill.postgres.target import Relation, Target, inspect, with_dimension
from vecfill.read.reader import Read
from vecfill.read.survey import Survey, survey
from vecfill.read.units import PageRange, plan_ranges
from vecfill.write.writer import Write

DIM = 8
MODEL = Model(name=f"hash:{DIM}")
INLINE = RunOptions(engine=EngineOptions(engine="inline"))
DOCS = Target(table="public.docs", text="{title}")

on_server = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""For properties that ask the server: examples share the test's database."""


def make_docs(connect: psycopg.Connection, rows: int = 0, *, vector: str = f"vector({DIM})", table: str = "docs"):
    """A table as users have it: NOT NULL columns that nobody gives to an UPDATE, and a text that is never blank."""
    connect.execute(
        f"CREATE TABLE {table} (id bigint PRIMARY KEY, title text, note text NOT NULL, seen int NOT NULL DEFAULT 0,"
        f" embedding {vector})"
    )
    add_docs(connect, 1, rows, table=table)


def add_docs(connect: psycopg.Connection, first: int, last: int, *, table: str = "docs"):
    connect.execute(
        f"INSERT INTO {table} (id, title, note)"
        " SELECT n, 'title ' || n, 'note ' || n FROM generate_series(%s::int, %s::int) n",
        [first, last],
    )


def relation_of(database: str, target: Target = DOCS, dim: int = DIM) -> Relation:
    with closing(Database(database).connect()) as connection:
        relation = inspect(connection, target)
    return relation if relation.vector.dim else with_dimension(relation, dim)


def survey_of(database: str, relation: Relation) -> Survey:
    with closing(Database(database).connect()) as connection:
        return survey(connection, relation)


def ranges_of(database: str, relation: Relation, limit: int | None = None) -> list[PageRange]:
    """Blocks of a slow model's size: more of them for as many rows."""
    return plan_ranges(survey_of(database, relation).buckets, limit, most_rows=2_000)


def read_all(database: str, relation: Relation, ranges: list[PageRange]) -> pa.Table:
    with closing(Read(Database(database), relation)) as read:
        return pa.concat_tables([read.nothing(), *(read(pages) for pages in ranges)])


def job_of(database: str, target: Target = DOCS, model: Model = MODEL, *, dim: int = DIM) -> Job:
    relation = relation_of(database, target, dim)
    spec = EncodeSpec(model=model, dim=relation.vector.dim, arity=relation.arity, column="docs.embedding")
    return Job(database=Database(database), relation=relation, encode=spec)


def inline_engine(job: Job) -> InlineEngine:
    return InlineEngine(Read(job.database, job.relation), Encode(job.encode), Write(job.database, job.relation))


def encoded(job: Job) -> pa.Table:
    """Every eligible row of the job's target, read and encoded as one block."""
    texts = read_all(job.database.conninfo, job.relation, ranges_of(job.database.conninfo, job.relation))
    return Encode(job.encode)(texts)


def counts(result: pa.Table) -> dict[str, int]:
    """Rows by outcome of a WriteResult, without the zeros."""
    totals = {outcome: sum(result[outcome].to_pylist()) for outcome in OUTCOMES}
    return {outcome: total for outcome, total in totals.items() if total}


def unwritten(result: pa.Table) -> dict[str, str]:
    """Outcome by key of the rows that a WriteResult names."""
    return {row["key"]: row["outcome"] for rows in result["unwritten"].to_pylist() for row in rows}


def vectors(connect: psycopg.Connection, text: str = "title", *, table: str = "docs") -> list[tuple]:
    return connect.execute(
        f"SELECT {text}, embedding::real[] FROM {table} WHERE embedding IS NOT NULL", binary=True
    ).fetchall()


def assert_every_vector_is_its_texts(
    connect: psycopg.Connection, text: str = "title", *, table: str = "docs", rows: int | None = None, tolerance=0.0
):
    """Encodes the texts that are in the table now, and compares; ``rows`` is how many must have a vector."""
    found = vectors(connect, text, table=table)
    assert rows is None or len(found) == rows
    if found:
        texts, ours = zip(*found, strict=True)
        ours = np.array(ours, np.float32)
        expected = HashEncoder(ours.shape[1]).encode(list(texts)).vectors
        wrong = ~np.isclose(ours, expected, rtol=tolerance, atol=tolerance).all(axis=1)
        assert not wrong.any(), [texts[row] for row in np.flatnonzero(wrong)[:5]]


def rest(connect: psycopg.Connection, table: str = "docs") -> str:
    """Checksum of every column but the embedding."""
    columns = connect.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attname <> 'embedding' ORDER BY 1",
        [table],
    ).fetchall()
    row = sql.SQL(", ").join(sql.Identifier(name) for (name,) in columns)
    query = sql.SQL("SELECT md5(string_agg(ROW({row})::text, '' ORDER BY ROW({row})::text)) FROM {table}")
    return connect.execute(query.format(row=row, table=sql.SQL(table))).fetchone()[0]


@contextmanager
def role(connect: psycopg.Connection, database: str, rights: str = "SELECT, UPDATE") -> Iterator[str]:
    """URI of the database for a role that owns nothing and has these rights on ``docs``."""
    name = connect.execute("SELECT 'filler_' || current_database()").fetchone()[0]
    quoted = sql.Identifier(name)
    connect.execute(sql.SQL("CREATE ROLE {} LOGIN").format(quoted))
    connect.execute(sql.SQL("GRANT {} ON docs TO {}").format(sql.SQL(rights), quoted))
    try:
        yield make_conninfo(database, user=name)
    finally:
        connect.execute(sql.SQL("DROP OWNED BY {}").format(quoted))
        connect.execute(sql.SQL("DROP ROLE {}").format(quoted))


@contextmanager
def another(database: str) -> Iterator[psycopg.Connection]:
    """A second session, in a transaction that is rolled back at the end unless it commits."""
    connection = psycopg.connect(database)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs ``work(done)`` beside the body, and raises what it raised; ``done`` is set when the body is over."""
    done, errors = threading.Event(), []

    def guarded() -> None:
        try:
            work(done)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if errors:
        raise errors[0]


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Polls until ``condition`` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.01)
