"""An application at work through all phases of both ways: it searches, edits, inserts and deletes; nothing fails."""

from __future__ import annotations

import random
import threading
from collections import Counter

import psycopg
import pytest
from tests.ledger.tracked import assert_current, fill
from tests.migration.moving import NEW, NEXT, begin, end, give_up, move, searched_docs, swap_back, swap_it
from tests.tables import DOCS, meanwhile, wait_until

from vecfill.config.migrate import LockOptions
from vecfill.config.model import Model
from vecfill.encode.load import load_model
from vecfill.migration.state import migration_status

pytestmark = pytest.mark.slow

ROWS, KEPT = 100, 10
"""Rows of the table, and those that nobody edits or deletes, each with the vector of ``title ID`` by its model."""

ACTS = (
    "UPDATE docs SET title = title || '!' WHERE id = %(id)s",
    "DELETE FROM docs WHERE id = %(id)s",
    "INSERT INTO docs (id, part, title) VALUES (%(new)s, %(part)s, 'title ' || %(new)s)",
)
NEAREST = "SELECT id FROM docs ORDER BY {} <=> %s::vector LIMIT 5"
DISTANCE = "SELECT {} <=> %s::vector FROM docs WHERE id = %s"
PATIENT = LockOptions(lock_timeout=0.1, lock_wait=120)
OTHER = Model(name="hash:8:other")
"""Another model of the same dimension: nothing but the result shows a query of the wrong one."""


class Application:
    """Searches by the column that its release knows, with a query of the model that made it, and counts.

    It fails if it waits for a lock for 2 s: only such waits count, not those of a busy machine.
    """

    def __init__(self, database: str, column: str = "embedding", model: str | None = "hash:8") -> None:
        self._database = database
        self.column, self.model = column, model
        """Column, and model of the queries; None asks ``active_model`` in the transaction of the search."""
        self.acts = 0
        self.searches: Counter[str] = Counter()
        self.mixed: list[tuple[str, float]] = []
        """Searches that compared vectors of two models: the model of the query, and the distance of an equal text."""

    def work(self, done: threading.Event) -> None:
        with psycopg.connect(self._database, autocommit=True) as session:
            session.execute("SET lock_timeout = '2s'")
            while not done.wait(0.03):
                number = self.acts
                row = {"id": random.randint(KEPT + 1, ROWS), "new": ROWS + 1 + number, "part": 1 + number % 2}
                session.execute(ACTS[number % len(ACTS)], row)
                self.search(session, 1 + number % KEPT)
                self.acts += 1

    def search(self, session: psycopg.Connection, row: int) -> None:
        column, model = self.column, self.model
        with session.transaction():
            if model is None:
                (model,) = session.execute("SELECT model FROM vecfill.active_model('docs')").fetchone()
            query = str(load_model(Model(name=model)).encode_query(f"title {row}").tolist())
            session.execute(NEAREST.format(column), [query])
            (distance,) = session.execute(DISTANCE.format(column), [query, row]).fetchone()
        self.searches[model] += 1
        if distance > 1e-4:
            self.mixed.append((model, distance))


def moved_beside_it(database: str, model: Model = NEW) -> None:
    """On a busy machine each sweep of a run may meet a row that changes; who sees the exit code runs it again."""
    wait_until(lambda: move(database, model).phase == "indexed")


@pytest.mark.parametrize("partitioned", [False, True], ids=["plain", "partitioned"])
def test_an_application_that_moves_to_the_new_column_never_fails_or_waits(connect, database, partitioned):
    searched_docs(connect, database, ROWS, partitioned=partitioned)
    application = Application(database)
    with meanwhile(application.work):
        begin(database)
        moved_beside_it(database)
        migration_status(DOCS, database=database)
        application.column, application.model = "embedding_next", NEW.name
        before = application.acts
        fill(database, NEXT, NEW)
        wait_until(lambda: application.acts > before + 10)
        end(database)
    assert fill(database, NEXT, NEW).exit_code == 0
    assert set(application.searches) == {"hash:8", "hash:16"}
    assert application.mixed == []


@pytest.mark.parametrize("partitioned", [False, True], ids=["plain", "partitioned"])
def test_an_application_that_asks_which_model_is_active_never_mixes_models(connect, database, partitioned):
    searched_docs(connect, database, ROWS, partitioned=partitioned)
    application, never_asks = Application(database, model=None), Application(database)
    with meanwhile(application.work):
        begin(database, OTHER)
        moved_beside_it(database, OTHER)
        swap_it(database, OTHER, locks=PATIENT, max_queued=50)
        wait_until(lambda: application.searches[OTHER.name] > 10)
        never_asks.search(connect, 1)
        swap_back(database, locks=PATIENT)
        before = application.searches["hash:8"]
        wait_until(lambda: application.searches["hash:8"] > before + 10)
        give_up(database)
    assert fill(database).exit_code == 0
    assert_current(connect)
    assert set(application.searches) == {"hash:8", OTHER.name}
    assert application.mixed == []
    assert len(never_asks.mixed) == 1
