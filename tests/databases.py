"""The server of the tests, a fresh database for each, and the check that no test leaves a connection behind."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests import own_server
from tests.needs import needs
from tests.own_server import pgvector

from vecfill.postgres import embedded
from vecfill.postgres.database import Database

_LEAK_SECONDS = 20.0
_MEMORY = 8 << 30


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """URI of a server for the whole session; under xdist each worker has its own (0.7 s, and nothing to share)."""
    if dsn := request.config.getoption("--test-dsn"):
        yield dsn
        return
    with _home() as folder:
        if chosen := request.config.getoption("--pg-bin"):
            with own_server.started(chosen, folder) as uri:
                yield _for_tests(uri)
        else:
            yield _for_tests(embedded.start(request.config.getoption("--pg-version"), folder))


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder, not made yet, for an embedded server of the test's own, which is stopped at the end."""
    with _home() as folder:
        yield folder


@pytest.fixture(scope="session")
def _stopped() -> Iterator[Path]:
    """The folder of an embedded server that was started once and stopped."""
    with _home() as folder:
        embedded.start(18, folder)
        embedded.stop(folder)
        yield folder


@pytest.fixture
def used_home(home: Path, _stopped: Path) -> Path:
    """The same folder with the data of a server that has run: to make them takes most of the time of a first start."""
    subprocess.run(["cp", "-a", str(_stopped), str(home)], check=True)  # with the owners, which shutil forgets
    return home


def _base() -> Path:
    """A short path that the server's user can reach: as root pytest's own folders are private.

    In memory a database is made in 20 ms, not 50 to 150; a container may lend little of it, or let nothing run there.
    """
    memory = Path("/dev/shm")
    if memory.is_dir():
        there = os.statvfs(memory)
        if there.f_bavail * there.f_frsize > _MEMORY and not there.f_flag & (os.ST_NOEXEC | os.ST_RDONLY):
            return memory
    return Path("/tmp" if os.geteuid() == 0 else tempfile.gettempdir())


@contextmanager
def _home() -> Iterator[Path]:
    folder = _base() / f"vecfill-{secrets.token_hex(4)}"
    try:
        yield folder
    finally:
        embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _for_tests(uri: str) -> str:
    """Has nothing wait for the disk, and nothing change tables or statistics but the test itself."""
    settings = dict.fromkeys(("fsync", "full_page_writes", "synchronous_commit"), "off") | {"autovacuum_naptime": "1d"}
    with psycopg.connect(uri, autocommit=True) as connection:
        for setting, value in settings.items():
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(setting), value))
        connection.execute("SELECT pg_reload_conf()")
    return uri


@pytest.fixture(scope="session")
def _admin(server: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(_uri(server, "postgres"), autocommit=True) as connection:
        yield connection


def _uri(dsn: str, database: str) -> str:
    return "postgresql:///?" + urlencode(conninfo_to_dict(dsn, dbname=database), quote_via=quote)


@pytest.fixture(scope="session")
def _template(server: str, _admin: psycopg.Connection) -> Iterator[str]:
    name = f"vecfill_template_{secrets.token_hex(4)}"
    _admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    with psycopg.connect(_uri(server, name), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    yield name
    _drop(_admin, name)


@pytest.fixture(scope="session")
def _old_vector(server: str, _template: str) -> bool:
    """Whether pgvector is older than 0.8; asked once, of the template."""
    with psycopg.connect(_uri(server, _template)) as connection:
        return pgvector(connection) < (0, 8)


@pytest.fixture
def database(server: str, _admin: psycopg.Connection, _template: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """URI of a fresh database with pgvector. The test errs if a connection to it is still open at its end.

    The embedded server copies the template's files: two thirds of the time, since no block goes through the WAL. A
    server that writes to a disk would wait for it.
    """
    name = f"vecfill_test_{secrets.token_hex(4)}"
    given = any(map(request.config.getoption, ("--test-dsn", "--pg-bin")))
    _admin.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} {}").format(
            sql.Identifier(name), sql.Identifier(_template), sql.SQL("" if given else "STRATEGY file_copy")
        )
    )
    yield _uri(server, name)
    leaks = _connections_left(_admin, name)
    _drop(_admin, name)
    if leaks:
        pytest.fail(f"connections left open: {leaks}")


def _connections_left(admin: psycopg.Connection, name: str) -> list[tuple[str, str, str]]:
    """Waits a moment, since a backend ends a little after its client has closed the connection."""
    deadline = time.monotonic() + _LEAK_SECONDS
    while leaks := admin.execute(
        "SELECT application_name, state, query FROM pg_stat_activity"
        " WHERE datname = %s AND backend_type = 'client backend'",
        [name],
    ).fetchall():
        if time.monotonic() > deadline:
            break
        time.sleep(0.002)
    return leaks


def _drop(admin: psycopg.Connection, name: str) -> None:
    admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class _Connection(psycopg.Connection):
    """Skips a test that makes what this server's pgvector is too old to have (vecfill has connections of its own)."""

    old = False

    def execute(self, *arguments: Any, **options: Any) -> psycopg.Cursor:
        try:
            return super().execute(*arguments, **options)
        except (psycopg.errors.UndefinedObject, psycopg.errors.UndefinedFunction) as error:
            if self.old:
                needs(f"pgvector 0.8: {error}")
            raise


@pytest.fixture
def connect(database: str, _old_vector: bool) -> Iterator[psycopg.Connection]:
    """An autocommit connection to the test's database."""
    with _Connection.connect(database, autocommit=True) as connection:
        connection.old = _old_vector
        yield connection


TOKEN_SCRIPT = """
import secrets, sys
import psycopg

admin, role, log = sys.argv[1:]
token = secrets.token_hex(8)
with psycopg.connect(admin, autocommit=True) as connection:
    connection.execute(f"ALTER ROLE {role} PASSWORD '{token}'")
with open(log, "a") as file:
    print(token, file=file)
print(token)
"""
"""A password command: makes the role's password anew, as a cloud's token is another at each asking."""


@dataclass(frozen=True)
class Token:
    """A role that logs in with a password that ``TOKEN_SCRIPT`` makes at each connect."""

    database: Database
    role: str
    admin: psycopg.Connection
    log: Path

    def asked(self) -> int:
        """How often a token was asked for."""
        return len(self.log.read_text().splitlines())


@pytest.fixture
def token(database: str, connect: psycopg.Connection, tmp_path: Path) -> Iterator[Token]:
    """A server that asks one role for its password."""
    rules = Path(connect.execute("SHOW hba_file").fetchone()[0])
    if not os.access(rules, os.W_OK):
        needs("a server whose pg_hba.conf is ours to change")
    role, before = f"vecfill_token_{secrets.token_hex(4)}", rules.read_text()
    connect.execute(f"CREATE ROLE {role} LOGIN SUPERUSER")
    rules.write_text(f"local all {role} scram-sha-256\nhost all {role} all scram-sha-256\n{before}")
    connect.execute("SELECT pg_reload_conf()")
    script, log = tmp_path / "ask_token.py", tmp_path / "log"
    script.write_text(TOKEN_SCRIPT)
    command = shlex.join([sys.executable, str(script), database, role, str(log)])
    try:
        yield Token(
            Database.resolve(make_conninfo(database, user=role), {}, password_command=command), role, connect, log
        )
    finally:
        rules.write_text(before)
        connect.execute("SELECT pg_reload_conf()")
        connect.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))
