"""Where the database is: every parameter of libpq gets through, and a password may come from a command."""

from __future__ import annotations

import pickle
import shlex
import socket
import sys
import threading
from contextlib import closing

import pytest
from psycopg import conninfo, pq
from tests.traces import loggers_restored

from vecfill.cli.logs import log_to_stderr
from vecfill.config.output import Output
from vecfill.errors import ConfigError, StoppedError
from vecfill.postgres import waits
from vecfill.postgres.database import Database
from vecfill.postgres.session import Session, reachable
from vecfill.postgres.transaction import transaction

OPTIONS = {
    option.keyword.decode(): (option.envvar or b"").decode()
    for option in pq.Conninfo.get_defaults()
    if option.keyword != b"replication"
}


def parts(database: Database) -> dict[str, str]:
    return conninfo.conninfo_to_dict(database.conninfo)


def says(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def test_every_parameter_of_libpq_is_kept():
    for name in OPTIONS:
        value = "7" if "port" in name or "timeout" in name else "some value"
        given = conninfo.make_conninfo("", **{"host": "h", name: value})
        assert parts(Database.resolve(given, {})) == {"host": "h", name: value}


def test_every_variable_of_libpq_counts_and_a_parameter_stands_above():
    for name, variable in OPTIONS.items():
        if variable:
            given = parts(Database.resolve("dbname=d", {variable: "v"}))
            assert given[name] == ("d" if name == "dbname" else "v"), variable
            ours = conninfo.make_conninfo("", **{name: "ours", "host": "ours"})
            assert parts(Database.resolve(ours, {variable: "v"}))[name] == "ours", variable


def test_tls_from_a_url():
    place = Database.resolve(
        "postgresql://u@db.example.com/app?sslmode=verify-full&sslrootcert=/ca.pem&options=-c%20x%3D1", {}
    )
    assert parts(place) == {
        **{"user": "u", "host": "db.example.com", "dbname": "app", "sslmode": "verify-full"},
        **{"sslrootcert": "/ca.pem", "options": "-c x=1"},
    }


def test_what_libpq_does_not_take_is_said(database):
    with pytest.raises(ConfigError, match=r"cannot connect to .*sslmode"):
        reachable(Database.resolve(conninfo.make_conninfo(database, sslmode="nonsense"), {}))


def test_a_broken_line_is_replaced_and_psycopg_adds_nothing_to_our_line(connect, database, caplog):
    def ask(connection):
        with transaction(connection, first=b"SELECT pg_backend_pid()") as cursor:
            return cursor.fetchone()[0]

    with loggers_restored(), closing(Session(Database(database))) as session:
        log_to_stderr(Output())
        pid = session.run(ask)
        connect.execute("SELECT pg_terminate_backend(%s, 20000)", [pid])
        assert session.run(ask) != pid
    assert [record for record in caplog.records if record.name.startswith("psycopg")] == []


# ------------------------------------------------------------------------------------------------ passwords by command


def test_the_command_shows_nowhere_and_travels():
    place = Database.resolve("host=h", {}, password_command="printer sekret")
    assert "sekret" not in f"{place!r} {place.label}"
    assert pickle.loads(pickle.dumps(place)) == place


def test_each_connect_asks_for_a_token_of_its_own(token):
    """The command gives the role a new password each time, so that only the newest opens the door."""
    with closing(Session(reachable(token.database))) as session:
        query = "SELECT pg_backend_pid(), current_user"
        pid, role = session.run(lambda connection: connection.execute(query).fetchone())
        token.admin.execute("SELECT pg_terminate_backend(%s, 20000)", [pid])
        again, _ = session.run(lambda connection: connection.execute(query).fetchone())
    assert (role, again != pid) == (token.role, True)
    assert token.asked() >= 3
    assert "password" not in parts(reachable(token.database))


def test_a_command_that_fails_for_a_while_does_not_end_a_run(database, tmp_path):
    ready = tmp_path / "ready"
    command = says(f"import pathlib; pathlib.Path({str(ready)!r}).stat(); print('any')")
    place = Database.resolve(database, {}, password_command=command)
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        reachable(place)
    timer = threading.Timer(0.6, ready.touch)
    timer.start()
    with closing(Session(place)) as session:
        assert session.run(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    timer.join()


def test_after_a_stop_what_is_finished_gets_a_connection_unless_nobody_answers(database, monkeypatch):
    def one(connection):
        return connection.execute("SELECT 1").fetchone()

    slow = Database.resolve(database, {}, password_command=says("import time; time.sleep(0.3); print('any')"))
    monkeypatch.setattr(waits, "END_S", 60.0)
    with closing(Session(slow, stopped=lambda: True)) as session:
        with pytest.raises(StoppedError):
            session.run(one)
        assert session.finish(one) == (1,)
    monkeypatch.setattr(waits, "END_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = Database.resolve(f"host=127.0.0.1 port={silent.getsockname()[1]} user=u dbname=d sslmode=disable")
        with closing(Session(nobody, stopped=lambda: True)) as session, pytest.raises(StoppedError):
            session.finish(one)
