"""A server for the tests from programs of anyone's choice: ``--pg-bin`` names the folder of initdb and pg_ctl."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from vecfill.postgres import server_programs

SETTINGS = """
listen_addresses = ''
unix_socket_directories = '.'
timezone = 'UTC'
log_timezone = 'UTC'
"""


def version(folder: Path) -> str:
    """What the server says of itself, such as ``14.23``."""
    return _execute(folder, Path("/"), "postgres", "--version").split()[2]


def pgvector(connect: psycopg.Connection) -> tuple[int, ...]:
    """Version of the extension in the test's database."""
    query = "SELECT string_to_array(extversion, '.')::int[] FROM pg_extension WHERE extname = 'vector'"
    return tuple(connect.execute(query).fetchone()[0])


@contextmanager
def started(folder: Path, home: Path) -> Iterator[str]:
    """URI of a new server with its data in ``home``; it is stopped at the end."""
    data = home / "data"
    home.mkdir(mode=0o755)
    data.mkdir(mode=0o700)
    if account := server_programs.server_account():
        os.chown(data, account.pw_uid, account.pw_gid)
    login = ("-U", "postgres", "-A", "trust", "-E", "UTF8")
    _execute(folder, home, "initdb", *login, "--locale=C", "--no-sync", "-D", str(data))
    with (data / "postgresql.conf").open("a") as file:
        file.write(SETTINGS)
    _execute(folder, home, "pg_ctl", "start", "-w", "-D", str(data), "-l", str(data / "server.log"))
    try:
        yield f"postgresql://postgres@/postgres?host={data}&port=5432"
    finally:
        _execute(folder, home, "pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(data))


def _execute(folder: Path, home: Path, program: str, *arguments: str) -> str:
    done = server_programs.execute(folder, home, program, *arguments)
    assert done.returncode == 0, done.stdout
    return done.stdout
