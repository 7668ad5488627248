"""The soak: a seeded mix of edits, runs, kills, restarts and DDL on a tracked table, and what must hold after it."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
from tests import own_server
from tests.soak import table
from tests.soak.runs import LEASE_S, Run, start

from vecfill.postgres import server_programs

TEMPLATES = ("{title}", "{title} {note}")
MODELS = (("-m", "hash:8"), ("-m", "hash:8", "--truncate-dim", "8"))
"""The same vectors under two fingerprints, so that the truth is one; the ledger says which made them."""

EXPECTED = {
    0: ("",),
    4: ("is being worked on by", "has taken over"),
    1: ("did not recover", "cannot connect"),
    2: ("is tracked with", "holds", "cannot connect"),
    5: ("",),
}
"""Exit codes that a run may have, and what its message must then be like."""

WEIGHTS = {
    "edit": 60,
    "open transaction": 3,
    "end transaction": 4,
    "run": 12,
    "end run": 2,
    "kill run": 3,
    "pause run": 2,
    "wake run": 3,
    "terminate backend": 3,
    "restart server": 0.4,
    "ddl": 3,
    "partition": 3,
    "track": 0.7,
    "check": 1.5,
}


class Soak:
    """One table under all of it. ``faults`` are what was wrong; the checks count what they saw."""

    def __init__(self, seed: int, home: Path, *, ray: bool = False, programs: Path | None = None) -> None:
        self.seed, self.home, self.ray = seed, home, ray
        self.chance = random.Random(seed)
        self.kind = self.chance.choice(("plain", "partitioned", "partitioned"))
        self.programs = programs or server_programs.reachable(18, home)
        self.template, self.model, self.replacing = TEMPLATES[0], MODELS[0], False
        self.detached: set[int] = set()
        self.runs: list[Run] = []
        self.held: list[psycopg.Connection] = []
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.steps: deque[str] = deque(maxlen=400)

    def go(self, seconds: float, most_steps: int | None = None) -> None:
        """Starts a server, does steps until the time is over, checks, and untracks."""
        with own_server.started(self.programs, self.home / "server") as self.uri:
            self.app = self._connected()
            for setting in ("fsync", "full_page_writes"):
                self.app.execute(f"ALTER SYSTEM SET {setting} = off")
            self.app.execute("SELECT pg_reload_conf(); CREATE EXTENSION vector")
            self.app.execute(table.MAKE[self.kind])
            self.app.execute(table.fill(table.ROWS))
            self._track()
            until = time.monotonic() + seconds
            try:
                while time.monotonic() < until and not self.faults and most_steps != self.counts["steps"]:
                    self.step()
                if not self.faults:
                    self.check()
            finally:
                self._end_all()
            if not self.faults:
                self._untrack()
            self.app.close()

    def step(self) -> None:
        """Does one step."""
        name = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        self.counts["steps"] += 1
        act: Callable[[], None] = getattr(self, f"_{name.replace(' ', '_')}") if name != "check" else self.check
        act()
        self._collect()

    def _say(self, line: str) -> None:
        self.steps.append(f"{self.counts['steps']}: {line}")

    # The application.

    def _connected(self) -> psycopg.Connection:
        connection = psycopg.connect(self.uri, autocommit=True, application_name="app")
        connection.execute("SET lock_timeout = '300ms'")
        return connection

    def _do(self, name: str, statement: str, connection: psycopg.Connection | None = None) -> bool:
        """Executes a statement of the application; what a lock or a constraint refuses is not done."""
        connection = connection or self.app
        self._say(f"{name}: {statement}")
        try:
            connection.execute(statement)
        except psycopg.OperationalError as error:
            self._say(f"  {error}".rstrip())
            if self.app.closed:
                self.app = self._connected()
            elif connection is self.app:
                self.app.execute("ROLLBACK")
            return False
        except psycopg.Error as error:
            self._say(f"  {error}".rstrip())
            if connection is self.app:
                self.app.execute("ROLLBACK")
            return False
        return True

    def _edit(self) -> None:
        for name, statement in table.edits(self.chance, self.kind):
            self.counts["edits"] += self._do(name, statement)
        if self.runs:
            time.sleep(0.01 * self.chance.random())  # or the edits of a second would meet no run

    def _open_transaction(self) -> None:
        if len(self.held) == 3:
            return
        connection = psycopg.connect(self.uri, application_name="app held")
        connection.execute("SET lock_timeout = '300ms'")
        if all(
            self._do(f"held {name}", statement, connection)
            for name, statement in table.edits(self.chance, self.kind)
            if "BEGIN" not in statement and "TRUNCATE" not in statement
        ):
            self.held.append(connection)
        else:
            connection.close()

    def _end_transaction(self) -> None:
        if self.held:
            connection = self.held.pop(self.chance.randrange(len(self.held)))
            self._say("held transaction ends")
            with contextlib.suppress(psycopg.Error):
                self.chance.choice((connection.commit, connection.rollback))()
            connection.close()

    # The runs.

    def _target(self, *flags: str) -> tuple[str, ...]:
        return ("-d", self.uri, "-t", "docs", "--text", self.template, *flags)

    def _run(self) -> None:
        if len(self.runs) >= 3:
            return
        flags = self.chance.choices(
            [(), ("--audit",), ("--limit", "50"), ("--select", "missing"), ("--select", "all")], [10, 2, 2, 1, 2]
        )[0]
        if "all" in flags and not self.replacing:
            self.model = MODELS[1 - MODELS.index(self.model)]
            self.counts["other models"] += 1
        self.replacing |= "all" in flags
        if self.replacing:
            flags = ("--select", "all")
        if self.chance.random() < 0.5:
            flags += ("--max-rate", str(self.chance.choice((500, 2_000, 8_000))))
        self._start(flags)

    def _start(self, flags: tuple[str, ...]) -> Run:
        number = self.counts["runs"]
        self.counts["runs"] += 1
        engine = "ray" if self.ray and self.chance.random() < 0.1 else "inline"
        if engine == "ray":
            self.counts["runs on Ray"] += 1
        flags = (*self.model, "--engine", engine, "--lease", str(LEASE_S), "--yes", "--json", *flags)
        found = table.open_rows(table.rows_of(self.app, self.template))
        folder = self.home / f"run_{number}"
        pid = start(folder, ("run", *self._target(*flags)))
        self._say(f"run {number} ({pid}): {' '.join(flags)}, {len(found)} rows open")
        run = Run(pid, folder, flags, tuple(found))
        self.runs.append(run)
        return run

    def _some_run(self, *, paused: bool = False) -> Run | None:
        alive = [run for run in self.runs if run.alive() and run.paused is paused]
        return self.chance.choice(alive) if alive else None

    def _end_run(self) -> None:
        if run := self._some_run():
            run.wait()

    def _kill_run(self) -> None:
        if run := self._some_run(paused=self.chance.random() < 0.2):
            self._say(f"kill -9 {run.folder.name}")
            run.send(signal.SIGKILL)
            self.counts["kills"] += 1

    def _pause_run(self) -> None:
        if run := self._some_run():
            self._say(f"pause {run.folder.name}")
            run.send(signal.SIGSTOP)
            run.paused = True
            self.counts["pauses"] += 1

    def _wake_run(self) -> None:
        if run := self._some_run(paused=True):
            self._say(f"wake {run.folder.name}")
            run.send(signal.SIGCONT)
            run.paused = False

    def _collect(self) -> None:
        for run in [run for run in self.runs if not run.alive()]:
            self.runs.remove(run)
            self._judge(run)

    def _judge(self, run: Run) -> None:
        code = run.wait()
        self.counts[f"exit {code}"] += 1
        errors = run.errors.strip()
        self._say(f"{run.folder.name} ended with {code}: {errors[-300:]}")
        if code == -signal.SIGKILL:
            return
        if "Traceback" in errors or "bug" in errors or not any(part in errors for part in EXPECTED.get(code, ())):
            self.faults.append(f"{run.folder.name} ended with {code}: {errors}")
        if code == 0 and run.whole:
            still = {(row.key, row.version) for row in table.open_rows(table.rows_of(self.app, self.template))}
            silent = [row for row in run.open if (row.key, row.version) in still and row.key not in run.excused]
            if silent:
                self.faults.append(f"silent: {run.folder.name} ended with 0 and left {len(silent)} open: {silent[:3]}")

    # The server, and who administers it.

    def _terminate_backend(self) -> None:
        who = self.chance.choice(("vecfill", "vecfill", "vecfill", "app held"))
        self._do(
            "terminate",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND"
            f" application_name = '{who}' ORDER BY md5(pid::text || '{self.chance.random()}') LIMIT 1",
        )
        self.counts["terminated"] += 1

    def _restart_server(self) -> None:
        self._say("restart -m immediate")
        data = str(self.home / "server" / "data")
        arguments = ("restart", "-w", "-m", "immediate", "-D", data, "-l", f"{data}/server.log")
        done = server_programs.execute(self.programs, self.home, "pg_ctl", *arguments)
        assert done.returncode == 0, done.stdout
        self.counts["restarts"] += 1
        self._drop_held()
        self.app.close()
        self.app = self._connected()

    def _drop_held(self) -> None:
        for connection in self.held:
            connection.close()
        self.held.clear()

    def _ddl(self) -> None:
        statement = self.chance.choice(
            (
                "CREATE INDEX CONCURRENTLY soak ON docs (title)" if self.kind == "plain" else "SELECT 1",
                "CREATE INDEX soak ON docs (note)",
                "DROP INDEX IF EXISTS soak",
                "CREATE INDEX missing ON docs (id) WHERE embedding IS NULL",
                "DROP INDEX IF EXISTS missing",
                "VACUUM FULL docs",
                "VACUUM docs",
                "ANALYZE docs",
                "VACUUM FULL vecfill.change_1",
                "VACUUM FULL vecfill.vector_1",
                "REINDEX TABLE vecfill.vector_1",
            )
        )
        self.counts["ddl"] += self._do("ddl", statement)

    def _partition(self) -> None:
        if self.kind == "plain":
            return
        part = self.chance.randrange(PARTS_THAT_MOVE)
        if part not in self.detached:
            keys = {row.key for row in table.rows_of(self.app, self.template) if row.key[1] == part}
            if self._do("ddl", f"ALTER TABLE docs DETACH PARTITION docs_{part}"):
                self.detached.add(part)
                for run in self.runs:
                    run.excused |= keys
        else:
            self._do("edit of a detached one", f"UPDATE docs_{part} SET title = 'away ' || id WHERE id % 7 = 0")
            self._do("edit of a detached one", f"DELETE FROM docs_{part} WHERE id % 31 = 0")
            if self._do("ddl", f"ALTER TABLE docs ATTACH PARTITION docs_{part} FOR VALUES IN ({part})"):
                self.detached.discard(part)
                self.replacing = True  # edits that waited when it was detached are forgotten: its rows are unknown
        self.counts["ddl"] += 1

    def _track(self) -> None:
        """Also again, and with another text."""
        while self.held:
            self._end_transaction()
        template = self.chance.choice(TEMPLATES) if self.counts["steps"] else self.template
        folder = self.home / f"track_{self.counts['tracks']}"
        run = Run(start(folder, ("track", "-d", self.uri, "-t", "docs", "--text", template)), folder, (), ())
        self.counts["tracks"] += 1
        code = run.wait()
        self._say(f"track with {template!r} ended with {code}: {run.errors.strip()}")
        if code == 0:
            if template != self.template:
                for other in self.runs:
                    other.excused |= {row.key for row in other.open}
            self.template = template
        elif "lock" not in run.errors and "did not recover" not in run.errors:
            self.faults.append(f"track ended with {code}: {run.errors}")

    # What must hold.

    def _quiet(self) -> None:
        """Ends what is going on."""
        while self.held:
            self._end_transaction()
        for run in self.runs:
            if run.paused:
                run.send(signal.SIGCONT)
            if self.chance.random() < 0.5:
                run.send(signal.SIGKILL)
            run.wait()
        self._collect()

    def _end_all(self) -> None:
        self._drop_held()
        for run in self.runs:
            run.send(signal.SIGKILL)
            run.send(signal.SIGCONT)
            run.wait()

    def check(self) -> None:
        """The edits stop; one more run; then every vector must be its text's, and the ledger must say so."""
        self._say("check")
        self._quiet()
        flags = ("--select", "all") if self.replacing else ()
        until = time.monotonic() + 10 * LEASE_S
        while True:
            run = self._start(flags)
            run.wait()
            if run.code != 4 or time.monotonic() > until:
                break
            self.runs.remove(run)
            self.counts["exit 4"] += 1
            time.sleep(0.2)
        if run.code:
            self.faults.append(f"the last run ended with {run.code}: {run.errors}")
            return
        self._collect()
        self.replacing = False
        self.counts["checks"] += 1
        wrong = table.open_rows(table.rows_of(self.app, self.template))
        self.counts["rows compared"] += self.app.execute("SELECT count(*) FROM docs").fetchone()[0]
        lost = [row for row in wrong if row.vector is None]
        self._expect("lost", lost)
        self._expect("wrong", [row for row in wrong if row.vector is not None])
        self._expect("left in the queue", self.app.execute("SELECT * FROM vecfill.change_1").fetchall())
        self._expect("without an origin, or of another model", self.app.execute(_ORIGINS, [self._number()]).fetchall())

    def _expect(self, what: str, rows: list) -> None:
        if rows:
            self.faults.append(f"{what}: {len(rows)}, such as {rows[:5]}")

    def _number(self) -> int:
        """The number of this model: the first that ran is 1, and the other 2."""
        details = "truncate_dim" if len(self.model) > 2 else "model"
        query = "SELECT id FROM vecfill.model WHERE (details ? 'truncate_dim') = %s"
        return self.app.execute(query, [details == "truncate_dim"]).fetchone()[0]

    def _untrack(self) -> None:
        folder = self.home / "untrack"
        run = Run(start(folder, ("untrack", "-d", self.uri, "-t", "docs")), folder, (), ())
        if run.wait():
            self.faults.append(f"untrack ended with {run.code}: {run.errors}")
        left = "SELECT nspname FROM pg_namespace WHERE nspname = 'vecfill' UNION SELECT tgname FROM pg_trigger"
        self._expect("left by untrack", self.app.execute(f"{left} WHERE NOT tgisinternal").fetchall())

    def report(self) -> Iterator[str]:
        """Lines for people: what was done, and what was wrong."""
        yield f"seed {self.seed} ({self.kind}): " + ", ".join(f"{n} {name}" for name, n in self.counts.items())
        if self.faults:
            yield from self.steps
        yield from self.faults or ["wrong 0, lost 0, silent 0"]


PARTS_THAT_MOVE = 2
"""The partitions that are detached and attached; the last one stays."""

_ORIGINS = """
SELECT id, part, model, title FROM docs LEFT JOIN vecfill.vector_1 ON (key0, key1) = (id, part)
WHERE embedding IS NOT NULL AND model IS DISTINCT FROM %s
"""
