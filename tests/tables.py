"""What the tests share: tables to fill, the stages made for them, and the independent check of the vectors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np
import psycopg
import pyarrow as pa
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from vecfill.blocks import OUTCOMES
from vecfill.config.engine import EngineOptions
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.encode.hash_encoder import HashEncoder
from vecfill.encode.stage import EncodeSpec, EncodeStage
from vecfill.engine.inline import InlineEngine
from vecfill.job import Job, Worker
from vecfill.postgres.database import Database
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation, with_dimension
from vecfill.postgres.selection import selection_of
from vecfill.postgres.session import Session
from vecfill.postgres.tracking import Tracking
from vecfill.read.reader import Reader
from vecfill.read.source import TableSource
from vecfill.read.survey import Survey, survey
from vecfill.read.units import RowUnit, plan_units
from vecfill.write.sink import TableSink
from vecfill.write.writer import Writer

T = TypeVar("T")

DIM = 8
MODEL = Model(name=f"hash:{DIM}")
INLINE = RunOptions(engine=EngineOptions(engine="inline"))
DOCS = Target(table="public.docs", text="{title}")

on_server = settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
)
"""For properties that ask the server: examples share the test's database. Floats of 16 bits are drawn by rejection."""


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


def rewrite_titles(connect: psycopg.Connection, first_id: int = 0):
    """From now on a trigger changes the text of these rows under the vector that is written."""
    connect.execute(
        f"CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF OLD.id >= {first_id} THEN NEW.title := upper(NEW.title); END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()"
    )


def relation_of(database: str, target: Target = DOCS, dim: int = DIM) -> Relation:
    with closing(Database(database).connect()) as connection:
        relation = inspect(connection, target)
    return relation if relation.table.vector.dim else with_dimension(relation, dim)


def with_arrays(relation: Relation, *, arrays: bool) -> Relation:
    """The target as a role meets it that may, or may not, make temporary tables."""
    return replace(relation, access=replace(relation.access, arrays=arrays))


def survey_of(database: str, relation: Relation) -> Survey:
    with closing(Database(database).connect()) as connection:
        return survey(connection, relation)


def ranges_of(database: str, relation: Relation, limit: int | None = None) -> list[RowUnit]:
    """Blocks of a slow model's size: more of them for as many rows."""
    return plan_units(survey_of(database, relation).buckets, limit, most_rows=2_000)


def reader_of(database: Database, relation: Relation) -> Reader:
    return TableSource(session=Session(database), relation=relation).reader(Worker())


def read_all(database: str, relation: Relation, units: list[RowUnit]) -> pa.Table:
    with closing(reader_of(Database(database), relation)) as read:
        return pa.concat_tables([read.nothing(), *(read(unit) for unit in units)])


def job_of(database: str, target: Target = DOCS, model: Model = MODEL, *, dim: int = DIM) -> Job:
    relation, place = relation_of(database, target, dim), Database(database)
    spec = EncodeSpec(model=model, dim=relation.table.vector.dim, arity=relation.table.arity, column="docs.embedding")
    source = TableSource(session=Session(place), relation=relation)
    return Job(source=source, encode=spec, sink=TableSink(database=place, relation=relation))


def tracked_job(job: Job, target: Target) -> Job:
    """The same job on a tracked target, without a lease."""
    relation = job.source.relation
    relation = replace(relation, tracking=replace(Tracking.of(target.state_schema, 1, relation.table.key), model=1))
    parts = {"relation": relation, "selection": selection_of(target, "changed")}
    return replace(job, source=replace(job.source, **parts), sink=replace(job.sink, **parts))


def writer_of(job: Job, relation: Relation | None = None, *, database: Database | None = None) -> Writer:
    """The write stage of a job, or the same for another relation or place."""
    sink = replace(job.sink, relation=relation or job.sink.relation, database=database or job.sink.database)
    return sink.writer(Worker())


def stage_of(spec: EncodeSpec) -> EncodeStage:
    return spec.stage(Worker(shared=spec.shared()))


def inline_engine(job: Job) -> InlineEngine:
    return InlineEngine(job)


def encoded(job: Job) -> pa.Table:
    """Every eligible row of the job's target, read and encoded as one block."""
    texts = read_all(
        job.sink.database.conninfo, job.sink.relation, ranges_of(job.sink.database.conninfo, job.sink.relation)
    )
    return stage_of(job.encode)(texts)


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
def role(
    connect: psycopg.Connection, database: str, rights: str = "SELECT, UPDATE", *, table: str = "docs"
) -> Iterator[str]:
    """URI of the database for a role that owns nothing and has these rights on one table."""
    name = connect.execute("SELECT 'filler_' || current_database()").fetchone()[0]
    quoted = sql.Identifier(name)
    connect.execute(sql.SQL("CREATE ROLE {} LOGIN").format(quoted))
    connect.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), sql.SQL(table), quoted))
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


def wait_until(condition: Callable[[], T], seconds: float = 60.0) -> T:
    """Polls until ``condition`` gives something true, and returns that; the longer it takes, the less often."""
    started = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - started
        assert waited < seconds, f"nothing after {seconds} s"
        time.sleep(min(0.01 + waited / 50, 0.1))
    return found


def end_sleeping(connect, function: str = "pg_terminate_backend") -> None:
    """Waits for a session of this database that sleeps in ``pg_sleep``, and ends it, or cancels its statement."""
    sleeping = "FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    wait_until(lambda: connect.execute(f"SELECT {function}(pid) {sleeping}").fetchone())


def cancel_sleeping(connect) -> None:
    """Waits for a session of this database that sleeps in ``pg_sleep``, and cancels its statement."""
    end_sleeping(connect, "pg_cancel_backend")
