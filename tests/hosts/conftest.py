"""A real PgBouncer in transaction mode in front of the test's database."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.needs import needs_tool
from tests.tables import wait_until

POOL = 2
"""Server connections that all clients share: fewer than a run has connections of its own."""

SETTINGS = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 50
logfile = {log}
"""


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _answers(uri: str) -> bool:
    try:
        psycopg.connect(uri).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def pooler(database: str) -> Iterator[str]:
    """Connection string of the test's database through PgBouncer, which keeps at most ``POOL`` connections to it."""
    program = needs_tool("pgbouncer", package="pgbouncer")
    server = conninfo_to_dict(database)
    # PgBouncer refuses to run as root, and the embedded server's socket is open to its own user alone.
    user = Path(str(server["host"])).stat().st_uid if str(server.get("host", "")).startswith("/") else 65_534
    as_user = {"user": user} if os.geteuid() == 0 else {}
    port = _free_port()
    uri = make_conninfo(host="127.0.0.1", port=port, dbname=server["dbname"], user=server.get("user"))
    with tempfile.TemporaryDirectory(prefix="pgbouncer-", dir="/tmp") as folder:
        Path(folder).chmod(0o777)
        log, file = Path(folder, "log"), Path(folder, "pgbouncer.ini")
        names = ("host", "port", "user", "password")
        line = " ".join(f"{name}={server[name]}" for name in names if server.get(name))
        file.write_text(SETTINGS.format(server=line, port=port, pool=POOL, log=log))
        process = subprocess.Popen([program, "--quiet", file], **as_user)
        try:
            wait_until(lambda: process.poll() is not None or _answers(uri))
            assert process.poll() is None, log.read_text()
            yield uri
        finally:
            process.terminate()
            process.wait(10)
