"""An application at work on the table during the run: its trigger saw every vector land, and on which text."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace

import numpy as np
import psycopg
import pytest
from tests.faults.processes import OURS
from tests.tables import DOCS, INLINE, make_docs, meanwhile

from vecfill.backfill.run import run
from vecfill.config.limits import WriteLimits
from vecfill.config.model import Model
from vecfill.encode.hash_encoder import HashEncoder
from vecfill.read.reader import Reader

pytestmark = pytest.mark.slow

DIM, ROWS = 64, 4_000

AUDIT = """
CREATE TABLE audit (ours boolean, title text, vector vector, gain int);
CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit VALUES (current_setting('application_name') = 'vecfill', NEW.title, NEW.embedding,
    (NEW.embedding IS NOT NULL)::int - (OLD.embedding IS NOT NULL)::int);
  RETURN NULL;
END $$;
CREATE TRIGGER seen AFTER UPDATE OF embedding OR DELETE ON docs FOR EACH ROW EXECUTE FUNCTION seen();
"""
"""A row of its own for each vector that comes or goes. In a DELETE, NEW is NULL."""

ACTS = (
    "UPDATE docs SET title = title || '!' WHERE id = %(id)s",
    "UPDATE docs SET title = title || '?', embedding = NULL WHERE id = %(id)s",
    "DELETE FROM docs WHERE id = %(id)s",
    "INSERT INTO docs (id, title, note) VALUES (%(new)s, 'title ' || %(new)s, 'new')",
)
EVERY_S = 1 / 50
HNSW = "CREATE INDEX ON docs USING hnsw (embedding vector_cosine_ops)"

AGE = f"""
SELECT COALESCE(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE {OURS} AND relation = 'docs'::regclass
"""
"""Seconds for which the oldest transaction of ours that holds any lock of the table has been going on."""


class Application:
    """Fifty rows a second, each in a transaction of its own; ``waits`` is how long each took, in seconds."""

    def __init__(self, database: str) -> None:
        self._database, self.waits = database, []

    def work(self, done: threading.Event) -> None:
        started = time.monotonic()
        with psycopg.connect(self._database, autocommit=True) as connection:
            while not done.wait(max(0.0, started + len(self.waits) * EVERY_S - time.monotonic())):
                number = len(self.waits)
                row = {"id": random.randint(1, ROWS), "new": ROWS + 1 + number}
                begun = time.monotonic()
                connection.execute(ACTS[number % len(ACTS)], row)
                self.waits.append(time.monotonic() - begun)


@pytest.fixture
def read(monkeypatch):
    """How many rows each block had that the run read."""
    rows, reads = [], Reader.__call__

    def noted(self, pages):
        table = reads(self, pages)
        rows.append(table.num_rows)
        return table

    monkeypatch.setattr(Reader, "__call__", noted)
    return rows


def oldest_lock(database: str, ages: list[float]):
    def sample(done: threading.Event) -> None:
        with psycopg.connect(database, autocommit=True) as watcher:
            while not done.wait(0.01):
                ages.append(watcher.execute(AGE).fetchone()[0])

    return sample


@pytest.mark.parametrize("index", ["", HNSW], ids=["plain", "hnsw"])
def test_no_vector_lands_on_another_text_and_the_account_is_the_table_s(connect, database, read, index):
    make_docs(connect, ROWS, vector=f"vector({DIM})")
    connect.execute(AUDIT + index)
    application, ages, tallies = Application(database), [], []
    # Without the index it would all be over before the application has done anything.
    options = INLINE if index else replace(INLINE, write_limits=WriteLimits(max_rate=2_000))
    with meanwhile(application.work), meanwhile(oldest_lock(database, ages)):
        result = run(
            DOCS,
            Model(name=f"hash:{DIM}"),
            database=database,
            options=options,
            progress=lambda now: tallies.append(now.tally),
        )
    ours = connect.execute("SELECT title, vector::real[] FROM audit WHERE ours", binary=True).fetchall()
    texts, landed = zip(*ours, strict=True)
    assert (np.array(landed, np.float32) == HashEncoder(DIM).encode(list(texts)).vectors).all()
    assert sum(read) == sum(sweep.rows for sweep in tallies[-1].sweeps) == result.embedded
    assert result.updated == len(ours)
    assert result.stale + result.gone > 0
    gain = connect.execute("SELECT sum(gain) FROM audit").fetchone()[0]
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone()[0] == gain
    assert len(application.waits) > 50
    assert sorted(application.waits)[-2] < 2  # a busy machine may stall once
    assert 0 < np.quantile(ages, 0.95) < 2
