"""``kill -9`` of the server in each phase of a migration: status tells the truth, and the same command is done then."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing

import psycopg
import pytest
from tests.migration.moving import begin, end, give_up, indexes, move, phases, searched_docs, swap_back, swap_it
from tests.tables import DOCS, assert_every_vector_is_its_texts, meanwhile, wait_until

from vecfill.errors import ConfigError, VecfillError
from vecfill.migration.state import migration_status
from vecfill.postgres import embedded, waits


class Server:
    """An embedded server of the test's own, that dies and comes back."""

    def __init__(self, home, version: int) -> None:
        self._home, self._version = home, version
        self.uri = embedded.start(version, home)

    def kill(self) -> None:
        data = self._home / f"pg{self._version}"
        os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def start(self) -> None:
        wait_until(self._started)  # the backends of the one before may still hold its memory

    def _started(self) -> bool:
        try:
            return embedded.start(self._version, self._home) == self.uri and bool(self.do("SELECT 1"))
        except (ConfigError, VecfillError, psycopg.OperationalError):
            return False

    def do(self, query: str) -> list[tuple]:
        with psycopg.connect(self.uri, autocommit=True) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []


def killed_at_commit(monkeypatch, server: Server, work) -> None:
    """Kills the server before the commit of the transaction that changes the table, and starts it again."""
    execute, commit, locked = psycopg.RawCursor.execute, psycopg.Connection.commit, []

    def executes(self, query, *arguments, **options):
        if "LOCK TABLE" in str(query):
            locked.append(self.connection)
        return execute(self, query, *arguments, **options)

    def commits(self):
        if self in locked:
            server.kill()
            wait_until(lambda: _is_gone(self))
        commit(self)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.RawCursor, "execute", executes)
        patch.setattr(psycopg.Connection, "commit", commits)
        with pytest.raises(VecfillError):
            work()
    assert locked
    server.start()


def _is_gone(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def killed_in_a_build(server: Server) -> None:
    """Kills the server while an index is built, which waits for an old transaction, and starts it again."""

    def kill(_: threading.Event) -> None:
        with closing(psycopg.connect(server.uri)) as old:
            old.execute("INSERT INTO docs VALUES (99, 1, 'never committed')")
            building = "SELECT pid FROM pg_stat_progress_create_index WHERE phase ~ 'waiting'"
            ((pid,),) = wait_until(lambda: server.do(building))
            os.kill(pid, signal.SIGSTOP)  # so that it does not come through before it notices
            server.kill()
            os.kill(pid, signal.SIGKILL)

    with meanwhile(kill), pytest.raises(VecfillError):
        move(server.uri)
    server.start()
    server.do("UPDATE vecfill.target SET held_until = clock_timestamp()")  # as if its lease had ended


def test_every_step_survives_a_server_that_is_killed(home, monkeypatch, request):
    monkeypatch.setattr(waits, "RETRY_FOR_S", 0)
    server = Server(home, request.config.getoption("--pg-version"))
    uri = server.uri
    with psycopg.connect(uri, autocommit=True) as connect:
        searched_docs(connect, uri)

    def phase() -> str:
        return migration_status(DOCS, database=uri).phase

    killed_at_commit(monkeypatch, server, lambda: begin(uri))
    with pytest.raises(ConfigError, match="no migration of"):
        phase()
    begin(uri)
    killed_in_a_build(server)
    assert phase() == "filled"
    assert "invalid" in {index.state for index in migration_status(DOCS, database=uri).indexes}
    assert move(uri).phase == "indexed"
    for step, after in ((swap_it, "swapped"), (swap_back, "rolled back"), (give_up, "abandoned")):
        before = phase()
        killed_at_commit(monkeypatch, server, lambda step=step: step(uri))
        assert phase() == before
        assert step(uri).done
        assert phase() == after
    begin(uri)
    move(uri)
    killed_at_commit(monkeypatch, server, lambda: end(uri))
    assert phase() == "indexed"
    assert end(uri).done
    with psycopg.connect(uri, autocommit=True) as connect:
        assert phases(connect)[-1] == "finished"
        assert indexes(connect, "embedding") == {}
        connect.execute("ALTER TABLE docs RENAME embedding_next TO embedding")
        assert_every_vector_is_its_texts(connect, rows=20)
