"""A job board with a queue table like the one that this project was born from, in small."""

from __future__ import annotations

from dataclasses import replace

import psycopg
from tests.tables import DIM, MODEL

from vecfill.config.queue_options import QueueOptions
from vecfill.config.target import Target
from vecfill.encode.stage import EncodeSpec
from vecfill.job import Job
from vecfill.postgres.database import Database
from vecfill.postgres.introspect import inspect
from vecfill.postgres.queue_introspect import with_queue_table
from vecfill.postgres.selection import MISSING, selection_of
from vecfill.postgres.session import Session
from vecfill.read.queue_table_source import QueueTableSource
from vecfill.read.source import TableSource
from vecfill.write.sink import TableSink

QUEUE = QueueOptions(
    table="embedding_queue",
    key=("job_id",),
    claimed="started_at",
    finished="finished_at",
    attempts="attempts",
    error="error",
)
BOARD = Target(table="public.jobs", text="{title}", queue=QUEUE)


def board(**changes: object) -> Target:
    """The target with other settings of its queue table."""
    return replace(BOARD, queue=replace(QUEUE, **changes))


def job_of_board(database: str) -> Job:
    """The stages of a run on the board; the connection of its source is the caller's to close."""
    session = Session(Database(database))
    relation = session.run(lambda connection: with_queue_table(connection, inspect(connection, BOARD), BOARD))
    selection = selection_of(BOARD, queue=relation.queue)
    source = QueueTableSource.of(TableSource(session=session, relation=relation, selection=selection), MISSING)
    return Job(
        source=source,
        encode=EncodeSpec(model=MODEL, dim=DIM, arity=1, column="jobs.embedding"),
        sink=TableSink(database=session.database, relation=source.relation, selection=selection),
    )


def make_board(
    connect: psycopg.Connection,
    rows: int = 0,
    *,
    status: str = "text",
    stamp: str = "timestamptz",
    reference: str = "REFERENCES jobs ON DELETE CASCADE",
) -> None:
    """Jobs without vectors, each with a pending entry."""
    connect.execute(
        f"CREATE TABLE jobs (id bigint PRIMARY KEY, title text, note text NOT NULL, embedding vector({DIM}));"
        "CREATE TABLE embedding_queue (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        f" job_id bigint NOT NULL {reference}, status {status} NOT NULL, priority int NOT NULL DEFAULT 0,"
        f" attempts int, error text, started_at {stamp}, finished_at {stamp});"
        "CREATE INDEX ON embedding_queue (job_id)"
    )
    if rows:
        add_jobs(connect, 1, rows)
        enqueue(connect, 1, rows)


def add_jobs(connect: psycopg.Connection, first: int, last: int) -> None:
    connect.execute(
        "INSERT INTO jobs SELECT n, 'title ' || n, 'note' FROM generate_series(%s::int, %s::int) n", [first, last]
    )


def enqueue(connect: psycopg.Connection, first: int, last: int, status: str = "pending", **values: object) -> None:
    names = "".join(f", {name}" for name in values)
    connect.execute(
        f"INSERT INTO embedding_queue (job_id, status{names}) SELECT n, {status!r}{', %s' * len(values)}"
        " FROM generate_series(%s::int, %s::int) n",
        [*values.values(), first, last],
    )


def monitored(connect: psycopg.Connection) -> dict[str, int]:
    """What the board's own monitoring says."""
    return dict(connect.execute("SELECT status::text, count(*) FROM embedding_queue GROUP BY 1 ORDER BY 1").fetchall())


def filled(connect: psycopg.Connection) -> int:
    return connect.execute("SELECT count(embedding) FROM jobs").fetchone()[0]
