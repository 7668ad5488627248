"""An application at work through all phases of both ways: it searches, edits, inserts and deletes; nothing fails."""

from __future__ import annotations

import random
import threading
import time

import psycopg
import pytest
from tests.ledger.tracked import assert_current, fill
from tests.migration.moving import NEW, NEXT, begin, end, give_up, move, searched_docs, swap_back, swap_it
from tests.tables import DOCS, meanwhile, wait_until

from vecfill.config.migrate import LockOptions
from vecfill.encode.hash_encoder import HashEncoder
from vecfill.migration.state import migration_status

pytestmark = pytest.mark.slow

ROWS = 100
ACTS = (
    "UPDATE docs SET title = title || '!' WHERE id = %(id)s",
    "DELETE FROM docs WHERE id = %(id)s",
    "INSERT INTO docs (id, part, title) VALUES (%(new)s, %(part)s, 'title ' || %(new)s)",
)
NEAREST = "SELECT id FROM docs ORDER BY {} <=> %s::vector LIMIT 5"
PATIENT = LockOptions(lock_timeout=0.1, lock_wait=120)


class Application:
    """Searches by the column that its release knows, with a query of the model that made it; counts and times."""

    def __init__(self, database: str, column: str = "embedding", dim: int | None = 8) -> None:
        self._database = database
        self.column, self.dim = column, dim
        """Column, and dimension of the queries; None asks ``active_model`` in the transaction of the search."""
        self.waits: list[float] = []
        self.searches: dict[int, int] = {}

    def work(self, done: threading.Event) -> None:
        with psycopg.connect(self._database, autocommit=True) as session:
            while not done.wait(0.03):
                number = len(self.waits)
                row = {"id": random.randint(1, ROWS), "new": ROWS + 1 + number, "part": 1 + number % 2}
                self._timed(lambda row=row, number=number: session.execute(ACTS[number % len(ACTS)], row))
                self._timed(lambda number=number: self._search(session, f"title {number}"))

    def _search(self, session: psycopg.Connection, text: str) -> None:
        column, dim = self.column, self.dim
        with session.transaction():
            if dim is None:
                (dim,) = session.execute("SELECT dimension FROM vecfill.active_model('docs')").fetchone()
            query = "[" + ",".join(map(str, HashEncoder(dim).encode([text]).vectors[0])) + "]"
            session.execute(NEAREST.format(column), [query])
        self.searches[dim] = self.searches.get(dim, 0) + 1

    def _timed(self, work) -> None:
        started = time.monotonic()
        work()
        self.waits.append(time.monotonic() - started)


@pytest.mark.parametrize("partitioned", [False, True], ids=["plain", "partitioned"])
def test_an_application_that_moves_to_the_new_column_never_fails_or_waits(connect, database, partitioned):
    searched_docs(connect, database, ROWS, partitioned=partitioned)
    application = Application(database)
    with meanwhile(application.work):
        begin(database)
        assert move(database).phase == "indexed"
        migration_status(DOCS, database=database)
        application.column, application.dim = "embedding_next", 16
        before = len(application.waits)
        fill(database, NEXT, NEW)
        wait_until(lambda: len(application.waits) > before + 20)
        end(database)
    assert fill(database, NEXT, NEW).exit_code == 0
    assert set(application.searches) == {8, 16}
    assert max(application.waits) < 1


@pytest.mark.parametrize("partitioned", [False, True], ids=["plain", "partitioned"])
def test_an_application_that_asks_which_model_is_active_never_mixes_models(connect, database, partitioned):
    """A query of the wrong dimension would be an error, so no search compared vectors of two models."""
    searched_docs(connect, database, ROWS, partitioned=partitioned)
    application = Application(database, dim=None)
    with meanwhile(application.work):
        begin(database)
        move(database)
        swap_it(database, locks=PATIENT, max_queued=50)
        wait_until(lambda: application.searches.get(16, 0) > 10)
        swap_back(database, locks=PATIENT)
        before = application.searches[8]
        wait_until(lambda: application.searches[8] > before + 10)
        give_up(database)
    assert fill(database).exit_code == 0
    assert_current(connect)
    assert set(application.searches) == {8, 16}
    assert max(application.waits) < 1
