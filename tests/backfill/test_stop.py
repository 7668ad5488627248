"""A stop ends every wait of a run: what it waits for is still there when the run has ended."""

from __future__ import annotations

import logging
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.faults.processes import OURS
from tests.tables import (
    DOCS,
    INLINE,
    MODEL,
    another,
    assert_every_vector_is_its_texts,
    make_docs,
    meanwhile,
    wait_until,
)

import vecfill.backfill.drain
import vecfill.encode.stage
from vecfill.backfill.progress import Progress
from vecfill.backfill.result import RunResult
from vecfill.backfill.run import run
from vecfill.config.target import Target
from vecfill.errors import StoppedError, TableLockedError
from vecfill.job import Stop
from vecfill.postgres import session, waits
from vecfill.postgres.database import Database

SLEEPING = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND wait_event = 'PgSleep'"
WAITING = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'"


def stopped_once(reached: Callable[[], object], database: str | Database, target: Target = DOCS) -> RunResult:
    """A run that SIGTERM stops as soon as ``reached`` is true."""
    stop = Stop()

    def work(done: threading.Event) -> None:
        wait_until(lambda: done.is_set() or reached())
        stop.set("SIGTERM")

    with meanwhile(work):
        return run(target, MODEL, database=database, options=INLINE, stop=stop)


def ends_before_it_starts(reached: Callable[[], object], database: str | Database, target: Target = DOCS) -> None:
    with pytest.raises(StoppedError, match="stopped by SIGTERM before anything was written") as error:
        stopped_once(reached, database, target)
    assert error.value.exit_code == 143


def one(connect: psycopg.Connection, query: str) -> Callable[[], int]:
    return lambda: connect.execute(query).fetchone()[0]


# -- before the first block


def test_while_it_connects_to_a_host_that_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        accepted: list[object] = []
        place = f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x user=x"
        ends_before_it_starts(lambda: accepted or accepted.append(silent.accept()), place)
        accepted[0][0].close()


def test_while_the_password_command_runs(database, tmp_path):
    running = tmp_path / "running"
    command = shlex.join(["sh", "-c", 'touch "$0"; while [ -e "$0" ]; do sleep 0.05; done', str(running)])
    ends_before_it_starts(running.exists, Database.resolve(database, {}, password_command=command))
    running.unlink()  # the command has run until now


def test_while_it_surveys(connect, database):
    make_docs(connect, 10)
    ends_before_it_starts(one(connect, SLEEPING), database, replace(DOCS, where="pg_sleep(600) IS NOT NULL"))
    wait_until(lambda: not one(connect, SLEEPING)())  # the server does not go on either


def test_while_it_waits_for_a_locked_table(connect, database):
    make_docs(connect, 10)
    with another(database) as other:
        other.execute("LOCK TABLE docs")
        ends_before_it_starts(one(connect, WAITING), database)


def test_while_the_model_loads(connect, database, monkeypatch):
    make_docs(connect, 10)
    loading, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(vecfill.encode.stage, "load_model", lambda *_, **__: loading.set() or go_on.wait(60))
    result = stopped_once(loading.is_set, database)
    assert (result.outcome, result.exit_code, result.updated, result.remaining) == ("stopped", 143, 0, 10)
    assert not go_on.is_set()
    go_on.set()


# -- afterwards


def test_while_it_counts_what_is_left(connect, database, monkeypatch):
    monkeypatch.setattr(vecfill.backfill.drain, "CLOSING_S", 0.1)
    make_docs(connect, 10)
    connect.execute(
        "CREATE FUNCTION slowly(e vector) RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN IF e IS NOT NULL THEN PERFORM pg_sleep(600); END IF; RETURN true; END $$"
    )
    result = stopped_once(one(connect, SLEEPING), database, replace(DOCS, where="slowly(embedding)"))
    assert (result.outcome, result.exit_code, result.updated) == ("stopped", 143, 10)
    assert (result.remaining, result.after, result.as_dict()["after"]) == (None, None, None)
    wait_until(lambda: not one(connect, SLEEPING)())


@pytest.fixture
def refuse(database: str) -> Iterator[Callable[[], None]]:
    """A function that ends every connection of ours and lets no new one in until the end of the test."""
    name = conninfo_to_dict(database)["dbname"]
    with psycopg.connect(make_conninfo(database, dbname="postgres"), autocommit=True) as admin:

        def refused() -> None:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vecfill'"
                " AND datname = %s",
                [name],
            )

        yield refused
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_while_the_server_is_away(connect, database, refuse, monkeypatch):
    monkeypatch.setattr(vecfill.backfill.drain, "CLOSING_S", 0.1)
    make_docs(connect, 6_000)
    stop = Stop()

    def away(event: Progress) -> None:
        if event.done and not stop.is_set():
            refuse()

    with at_each_retry(lambda: stop.set("SIGTERM")):
        result = run(DOCS, MODEL, database=database, options=INLINE, stop=stop, progress=away)
    assert (result.outcome, result.exit_code, result.remaining) == ("stopped", 143, None)
    assert 0 < result.updated <= connect.execute("SELECT count(embedding) FROM docs").fetchone()[0] < 6_000
    assert_every_vector_is_its_texts(connect)


# -- a locked table


@contextmanager
def at_each_retry(act: Callable[[], object]) -> Iterator[None]:
    """Calls ``act`` once the session says that it tries again."""

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "trying again" in record.getMessage():
                act()

    watch = Watch()
    session.log.addHandler(watch)
    try:
        yield
    finally:
        session.log.removeHandler(watch)


@pytest.mark.parametrize("when", ["at the start", "while it reads"])
def test_a_reader_waits_for_a_table_that_is_locked_for_longer_than_a_statement_waits(
    connect, database, monkeypatch, when
):
    monkeypatch.setattr("vecfill.postgres.transaction.LOCK_TIMEOUT", "50ms")
    make_docs(connect, 6_000)
    with another(database) as other:

        def lock(event: Progress | None = None) -> None:
            if not locked and (event is None or event.done):
                locked.append(other.execute("LOCK TABLE docs"))

        locked: list[object] = []
        if when == "at the start":
            lock()
        retries: list[object] = []
        with at_each_retry(lambda: retries.append(other.rollback())):
            result = run(DOCS, MODEL, database=database, options=INLINE, progress=lock)
    assert (result.outcome, result.updated, bool(retries)) == ("complete", 6_000, True)


def test_a_table_that_stays_locked_ends_the_run_with_its_account(connect, database, monkeypatch):
    monkeypatch.setattr("vecfill.postgres.transaction.LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(waits, "LOCKED_FOR_S", 0.2)
    monkeypatch.setattr(vecfill.backfill.drain, "CLOSING_S", 0.1)
    make_docs(connect, 6_000)
    with another(database) as other:
        locked: list[object] = []
        result = run(
            *(DOCS, MODEL),
            database=database,
            options=INLINE,
            progress=lambda event: event.done and (locked or locked.append(other.execute("LOCK TABLE docs"))),
        )
        assert (result.outcome, result.exit_code, result.remaining) == ("incomplete", 5, None)
        assert 0 < result.updated < 6_000
        with pytest.raises(TableLockedError, match="the table is locked as a whole by another session"):
            run(DOCS, MODEL, database=database, options=INLINE)
