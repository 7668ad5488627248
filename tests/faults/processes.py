"""Whole processes of ours to do harm to: started, found by what they call themselves, watched on the server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
from tests.tables import DOCS, INLINE, MODEL, wait_until

from vecfill.backfill.run import run

OURS = "datname = current_database() AND application_name = 'vecfill'"
BACKENDS = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}"
EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143}
LOCKS = f"SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE {OURS}"


@contextmanager
def vecfill(database: str, *flags: str) -> Iterator[subprocess.Popen]:
    """A run in a process group of its own, which is gone at the end, Ray's processes too."""
    command = [sys.executable, "-m", "vecfill", "run", "-d", database, "-t", "docs", "--text", "title", "-m", "hash:8"]
    process = subprocess.Popen(
        [*command, "--json", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def completes(connect: psycopg.Connection, database: str, rows: int) -> None:
    """A run in this process that ends as it should, after which so many rows have a vector."""
    assert run(DOCS, MODEL, database=database, options=INLINE).outcome == "complete"
    assert filled(connect) == rows


def stopped(process: subprocess.Popen, connect: psycopg.Connection, number: int) -> dict:
    """Sends the signal once rows have been written, and returns what the process says at its end."""
    wait_until(lambda: process.poll() is not None or filled(connect), 90)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == EXIT[number], err
    assert "stopping: committing batches in flight" in err
    assert "Traceback" not in err
    return json.loads(out)


def filled(connect: psycopg.Connection) -> int:
    return connect.execute("SELECT count(embedding) FROM docs").fetchone()[0]


def wait_for_backends(connect: psycopg.Connection, seconds: float = 30.0) -> None:
    """No backend of ours is left, and so no lock: the server notices within 2 s that its client is gone."""
    wait_until(lambda: connect.execute(BACKENDS).fetchone() == (0,), seconds)
    assert connect.execute(LOCKS).fetchone() == (0,)


def descendants(pid: int) -> set[int]:
    """The process and all below it; none where it is gone."""
    try:
        return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    except psutil.NoSuchProcess:
        return set()


def workers(driver: int, name: str) -> list[int]:
    """Ray's workers below a process that are at work as ``name``, such as ``EncoderActor``."""
    return [pid for pid in descendants(driver) if (title := shown(pid)).startswith("ray::") and name in title]


def shown(pid: int) -> str:
    """A process's command line, as everybody may read it; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
