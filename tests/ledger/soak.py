"""A tracked table under everything at once, for as long as you like: ``scripts/soak --minutes N --seed S``.

An application edits, moves, deletes and inserts rows all the time; runs start, are killed, paused past their lease; the
server restarts and loses connections; partitions come and go, indexes are built, tables rewritten. Then the edits
stop, one more run follows, and the whole table is compared with vectors made here. A seed repeats the decisions; the
timing is the machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
from tests import own_server
from tests.ledger.soak_application import Application, wrong_rows

from vecfill.postgres import server_programs

LEASE_S = 4
MODELS = (("--model", "hash:8"), ("--model", "hash:16", "--truncate-dim", "8"))
SETUP = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE docs (id int, part int, title text, note text, seen int NOT NULL DEFAULT 0, embedding vector(8),
  PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE docs_1 PARTITION OF docs FOR VALUES IN (1);
CREATE TABLE docs_2 PARTITION OF docs FOR VALUES IN (2);
CREATE TABLE docs_3 PARTITION OF docs FOR VALUES IN (3);
INSERT INTO docs (id, part, title) SELECT n, 1 + n % 3, 'title ' || n FROM generate_series(1, 600) n;
"""


class Soak:
    """One soak: the server, the application, and what is done to them."""

    def __init__(self, uri: str, folder: Path, home: Path, seed: int) -> None:
        self.uri, self.folder, self.home, self.chance = uri, folder, home, random.Random(seed)
        self.model, self.switching, self.done, self.silent = 0, False, Counter(), []
        self.application = Application(uri, seed)

    def run(self, seconds: float) -> list[str]:
        """Goes on for so long; returns what is wrong at the end, a line each."""
        with contextlib.closing(psycopg.connect(self.uri, autocommit=True)) as connection:
            connection.execute(SETUP)
        assert self._vecfill("track").wait() == 0
        stopped = threading.Event()
        editing = threading.Thread(target=self.application.edit_until, args=(stopped,))
        editing.start()
        until = time.monotonic() + seconds
        acts = (
            self._fill,
            self._fill,
            self._fill,
            self._kill,
            self._pause,
            self._terminate,
            self._restart,
            self._alter,
        )
        try:
            while time.monotonic() < until:
                act = self.chance.choice((*acts, self._switch))
                self.done[act.__name__] += 1
                act()
        finally:
            stopped.set()
            editing.join()
        return [*self.silent, *self._end()]

    def _end(self) -> list[str]:
        codes = []
        for _ in range(20):
            codes.append(self._run_flags())
            if codes[-1] == 0:
                break
            self.switching = self.switching or codes[-1] == 2
            time.sleep(1)
        with contextlib.closing(psycopg.connect(self.uri)) as connection:
            wrong = wrong_rows(connection)
            left = connection.execute("SELECT count(*) FROM vecfill.change_1").fetchone()
        lines = [f"wrong at the end: {row}" for row in wrong]
        return (
            lines
            + ([f"no run ended with 0: {codes}"] if codes[-1] else [])
            + ([f"queued: {left}"] if left != (0,) else [])
        )

    # -- runs

    def _vecfill(self, verb: str, *flags: str) -> subprocess.Popen:
        target = ("-d", self.uri, "-t", "docs", "--text", "title")
        more = (*MODELS[self.model], "--engine", "inline", "--lease", str(LEASE_S), "--yes") if verb == "run" else ()
        command = [sys.executable, "-m", "vecfill", verb, *target, *more, *flags]
        self._log(" ".join(command[2:]))
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(self.home / "runs.log").open("a"))

    def _log(self, line: str) -> None:
        with (self.home / "runs.log").open("a") as file:
            file.write(f"--- {time.strftime('%X')} {line}\n")

    def _start(self) -> subprocess.Popen:
        flags = ["--select", "all"] if self.switching else self.chance.choice([[], [], ["--audit"], ["--limit", "40"]])
        return self._vecfill("run", *flags)

    def _run_flags(self, *flags: str) -> int:
        code = self._vecfill("run", *(["--select", "all"] if self.switching else flags)).wait()
        if code == 0:
            self.switching = False
        return code

    def _fill(self) -> None:
        """A run that nobody disturbs: with exit code 0, what was open before it is done or has changed."""
        with contextlib.suppress(psycopg.Error), contextlib.closing(psycopg.connect(self.uri)) as connection:
            before = set(wrong_rows(connection))
            connection.rollback()
            code = self._run_flags()
            self.done[f"exit {code}"] += 1
            if code == 2:  # an attached partition brought the other model's vectors, which a run says
                self.switching = True
            elif code == 0:
                silent = sorted(before & set(wrong_rows(connection)))
                self.silent += [f"silent: {row}" for row in silent]
                self._log(f"open before and after: {silent}")
                if silent:
                    keys = [row[0] for row in silent]
                    self._log(
                        str(
                            connection.execute(
                                "SELECT key0, kind, at, ctid FROM vecfill.change_1 WHERE key0 = ANY (%s)", [keys]
                            ).fetchall()
                        )
                    )
                    self._log(
                        str(
                            connection.execute(
                                "SELECT key0, key1, model, text_hash FROM vecfill.vector_1 WHERE key0 = ANY (%s)",
                                [keys],
                            ).fetchall()
                        )
                    )
                    self._log(
                        str(
                            connection.execute(
                                "SELECT id, part, embedding IS NULL, substr(sha256(title::bytea),1,16), xmin, xmax, ctid, now() FROM docs WHERE id = ANY (%s)",
                                [keys],
                            ).fetchall()
                        )
                    )
            elif code not in (4, 5):
                self.silent.append(f"an undisturbed run ended with {code}")

    def _switch(self) -> None:
        """Another model replaces all vectors."""
        if not self.switching:
            self.model, self.switching = 1 - self.model, True
        self._fill()

    def _kill(self) -> None:
        process = self._start()
        time.sleep(self.chance.uniform(0.5, 4))
        process.send_signal(signal.SIGKILL)
        process.wait()

    def _pause(self) -> None:
        """A run that is paused past its lease, while another takes over; it wakes and ends."""
        process = self._start()
        time.sleep(self.chance.uniform(1, 3))
        process.send_signal(signal.SIGSTOP)
        time.sleep(LEASE_S + 1)
        self._run_flags()
        process.send_signal(signal.SIGCONT)
        self.done[f"woke, exit {process.wait()}"] += 1

    def _terminate(self) -> None:
        process = self._start()
        for _ in range(3):
            time.sleep(self.chance.uniform(0.3, 1.5))
            with contextlib.suppress(psycopg.Error), contextlib.closing(psycopg.connect(self.uri)) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vecfill' LIMIT 1"
                )
        process.wait()

    # -- the server and the table

    def _restart(self) -> None:
        process = self._start()
        time.sleep(self.chance.uniform(0.5, 2))
        data = self.home / "server" / "data"
        own_server._execute(
            self.folder,
            self.home,
            "pg_ctl",
            "restart",
            "-w",
            "-m",
            "immediate",
            "-D",
            str(data),
            "-l",
            str(data / "log"),
        )
        process.wait()

    def _alter(self) -> None:
        statements = self.chance.choice(
            [
                ["VACUUM FULL docs_1"],
                ["CREATE INDEX CONCURRENTLY IF NOT EXISTS docs_2_note ON docs_2 (note)", "DROP INDEX docs_2_note"],
                ["CLUSTER docs_3 USING docs_3_pkey"],
                [
                    "ALTER TABLE docs DETACH PARTITION docs_3",
                    "ALTER TABLE docs ATTACH PARTITION docs_3 FOR VALUES IN (3)",
                ],
                ["TRUNCATE docs_2"],
                ["VACUUM docs_1", "VACUUM vecfill.change_1"],
            ]
        )
        process = self._start()
        with (
            contextlib.suppress(psycopg.Error),
            contextlib.closing(psycopg.connect(self.uri, autocommit=True)) as connection,
        ):
            for statement in statements:
                time.sleep(self.chance.uniform(0, 1))
                connection.execute(statement)
        process.wait()


@contextlib.contextmanager
def soak(seed: int) -> Iterator[Soak]:
    """A soak on a server of its own."""
    with tempfile.TemporaryDirectory(prefix="vecfill-soak-", dir="/dev/shm") as name:
        home = Path(name)
        home.chmod(0o755)
        folder = server_programs.reachable(18, home)
        with own_server.started(folder, home / "server") as uri:
            yield Soak(uri, folder, home, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}, {given.minutes:g} minutes", flush=True)
    with soak(seed) as one:
        wrong = one.run(60 * given.minutes)
        log = (one.home / "runs.log").read_text()
    print(f"acts {dict(one.done)}; edits {dict(one.application.done)}")
    print("\n".join(wrong[:20]) or "wrong 0, lost 0, silent 0")
    if wrong:
        Path(f"soak-{seed}.log").write_text(log)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
