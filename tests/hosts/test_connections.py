"""A run as a hosted server sees it: how many connections at a time, and who logs in with which token."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.tables import DOCS, MODEL, assert_every_vector_is_its_texts, make_docs, meanwhile, wait_until

from vecfill.backfill.run import run
from vecfill.config.engine import EngineOptions
from vecfill.config.run import RunOptions
from vecfill.postgres.database import Database

COUNT = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND backend_type = 'client backend'"
FILLED = "SELECT EXISTS (SELECT FROM docs WHERE embedding IS NOT NULL)"


@pytest.fixture
def docs(connect):
    make_docs(connect, 30_000)
    return connect


def may_fill(connect: psycopg.Connection, role: str, most: int) -> None:
    """The server itself lets the role in no more often: one connection too many would be refused."""
    rights = "ALTER ROLE {0} NOSUPERUSER LOGIN CONNECTION LIMIT {1}; GRANT SELECT, UPDATE ON docs TO {0}"
    connect.execute(sql.SQL(rights).format(sql.Identifier(role), sql.Literal(most)))


@contextmanager
def sampled(database: str, role: str) -> Iterator[list[int]]:
    """Counts the role's connections every few milliseconds."""
    seen: list[int] = []

    def sample(done: threading.Event) -> None:
        with psycopg.connect(database, autocommit=True) as watcher:
            while not done.wait(0.005):
                seen.append(watcher.execute(COUNT, [role]).fetchone()[0])

    with meanwhile(sample):
        yield seen


def test_in_this_process_three_connections_are_enough(docs, database, caplog):
    docs.execute("CREATE ROLE vecfill_few")
    may_fill(docs, "vecfill_few", 3)
    place = make_conninfo(database, user="vecfill_few")
    options = RunOptions(engine=EngineOptions(engine="inline", max_connections=3))
    try:
        with sampled(database, "vecfill_few") as seen:
            result = run(DOCS, MODEL, database=place, options=options)
    finally:
        docs.execute("DROP OWNED BY vecfill_few; DROP ROLE vecfill_few")
    assert (result.updated, caplog.text) == (30_000, "")
    assert 2 <= max(seen) <= 3


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own settings, at its import
def test_on_ray_the_bound_holds_and_workers_ask_for_tokens_of_their_own(docs, database, token, tmp_path, warm):
    """The password changes in the middle of the run, as a cloud's token does every 15 minutes."""
    log, secret = tmp_path / "pids", tmp_path / "secret"
    may_fill(docs, token.role, 4)

    def change(word: str) -> None:
        secret.write_text(f"{word}\n")
        docs.execute(f"ALTER ROLE {token.role} PASSWORD '{word}'")

    def halfway(done: threading.Event) -> None:
        with psycopg.connect(database, autocommit=True) as watcher:
            wait_until(lambda: done.is_set() or watcher.execute(FILLED).fetchone()[0])
        change("sekret two")

    change("sekret one")
    place = Database.resolve(token.database.conninfo, password_command=f"sh -c 'echo $PPID >> {log}; cat {secret}'")
    options = RunOptions(engine=EngineOptions(engine="ray", max_connections=4))
    with sampled(database, token.role) as seen, meanwhile(halfway):
        result = run(DOCS, MODEL, database=place, options=options, warm=warm)
    assert (result.engine, result.updated) == ("ray", 30_000)
    assert_every_vector_is_its_texts(docs, rows=30_000)
    assert 1 <= max(seen) <= 4  # the reader may have finished before the writer connects
    assert len(set(log.read_text().split())) >= 3  # the driver, a reader, a writer
