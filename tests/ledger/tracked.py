"""What the tests of tracked targets share: a target, its runs, and an oracle that knows nothing of the ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
from tests.tables import DOCS, INLINE, MODEL, assert_every_vector_is_its_texts, make_docs

from vecfill import RunResult, Target, run, track
from vecfill.config.model import Model


def tracked_docs(
    connect: psycopg.Connection, database: str, rows: int = 20, *, filled: bool = True, **made: Any
) -> None:
    """Makes the table, tracks it, and fills it."""
    make_docs(connect, rows, **made)
    track(DOCS, database=database)
    if filled:
        assert fill(database).exit_code == 0


def make_partitioned_docs(connect: psycopg.Connection, rows: int = 20, *, part: str = "1 + n % 2") -> None:
    """The table in two partitions, by a key of two columns."""
    connect.execute(
        "CREATE TABLE docs (id int, part int, title text, embedding vector(8), PRIMARY KEY (id, part))"
        " PARTITION BY LIST (part);"
        "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES IN (1);"
        "CREATE TABLE docs_2 PARTITION OF docs FOR VALUES IN (2);"
        f"INSERT INTO docs SELECT n, {part}, 'title ' || n FROM generate_series(1, {rows}) n"
    )


def fill(database: str, target: Target = DOCS, model: Model = MODEL, **options: Any) -> RunResult:
    """Runs in this process."""
    return run(target, model, database=database, options=replace(INLINE, **options))


def assert_current(connect: psycopg.Connection, text: str = "title", *, table: str = "docs") -> None:
    """Each row has the vector of its text as it is now, made anew here; a row without a text has none."""
    assert_every_vector_is_its_texts(connect, text, table=table)
    wrong = f"SELECT id FROM {table} WHERE (embedding IS NULL) <> (btrim(coalesce({text}, '')) = '')"
    assert not connect.execute(wrong).fetchall()


def queue(connect: psycopg.Connection, number: int = 1) -> dict[str, int]:
    """The entries of the queue by kind."""
    return dict(connect.execute(f"SELECT kind, count(*) FROM vecfill.change_{number} GROUP BY kind").fetchall())
