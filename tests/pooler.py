"""A real PgBouncer in transaction mode, for the tests and the soak of a watch."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
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


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Pooler:
    """A PgBouncer in front of a database, with at most ``POOL`` connections to it; ``uri`` goes through it."""

    def __init__(self, program: str, database: str, folder: Path) -> None:
        server, port = conninfo_to_dict(database), free_port()
        # PgBouncer refuses to run as root, and the embedded server's socket is open to its own user alone.
        user = Path(str(server["host"])).stat().st_uid if str(server.get("host", "")).startswith("/") else 65_534
        self._as_user = {"user": user} if os.geteuid() == 0 else {}
        self.uri = make_conninfo(host="127.0.0.1", port=port, dbname=server["dbname"], user=server.get("user"))
        folder.chmod(0o777)
        self._log, file = folder / "log", folder / "pgbouncer.ini"
        names = ("host", "port", "user", "password")
        line = " ".join(f"{name}={server[name]}" for name in names if server.get(name))
        file.write_text(SETTINGS.format(server=line, port=port, pool=POOL, log=self._log))
        self._command = [program, "--quiet", str(file)]

    @contextmanager
    def running(self) -> Iterator[str]:
        """Runs it meanwhile; yields its URI."""
        process = subprocess.Popen(self._command, **self._as_user)
        try:
            wait_until(lambda: process.poll() is not None or self._answers())
            assert process.poll() is None, self._log.read_text()
            yield self.uri
        finally:
            process.terminate()
            process.wait(10)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.uri).close()
        except psycopg.OperationalError:
            return False
        return True
