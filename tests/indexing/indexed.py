"""What the tests of vector indexes share: a tracked table with one, and the indexes as the server describes them."""

from __future__ import annotations

from dataclasses import replace

import psycopg
from tests.ledger.tracked import fill, tracked_docs
from tests.tables import DOCS, INLINE, MODEL

from vecfill import RunResult, run
from vecfill.config.model import Model
from vecfill.job import Stop

HNSW = "CREATE INDEX docs_near ON docs USING hnsw (embedding vector_cosine_ops) WITH (m='4') WHERE id > 0"


def indexed_docs(connect: psycopg.Connection, database: str, rows: int = 20) -> None:
    """A tracked table that is filled and has a vector index."""
    tracked_docs(connect, database, rows)
    connect.execute(HNSW)


def rebuilt(database: str, model: Model = MODEL, **more) -> RunResult:
    """A run that builds the indexes again."""
    return fill(database, model=model, index="rebuild", **more)


def stopped(database: str, reason: str) -> RunResult:
    """The same, stopped before its first row."""
    stop = Stop()

    def progress(event):
        if event.step == "sweep":
            stop.set(reason, override=True)

    return run(DOCS, MODEL, database=database, options=replace(INLINE, index="rebuild"), stop=stop, progress=progress)


def outdate(connect: psycopg.Connection, condition: str = "true") -> None:
    """Rows that a run has to make anew."""
    connect.execute(f"UPDATE docs SET title = title || '.' WHERE {condition}")


def shape(connect: psycopg.Connection) -> list[tuple]:
    """All that there is to know of the vector indexes, but for their oids."""
    return connect.execute(
        "SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid, c.reltablespace,"
        " obj_description(c.oid, 'pg_class'), i.indisclustered,"
        " (SELECT array_agg(attstattarget) FROM pg_attribute a WHERE a.attrelid = c.oid),"
        " (SELECT inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = c.oid)"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relam >= 16384 ORDER BY 1"
    ).fetchall()


def waiting(connect: psycopg.Connection) -> list[str]:
    """Names of the indexes that wait."""
    found = connect.execute("SELECT waiting_indexes FROM vecfill.target").fetchone()[0]
    return [one["name"] for one in found or ()]
