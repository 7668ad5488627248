"""What the tests of migrations share: a table with indexes, the steps, and the schema as ``pg_dump`` writes it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import psycopg
from tests.ledger.tracked import fill
from tests.tables import DOCS, INLINE

from vecfill import track, untrack
from vecfill.config.migrate import LockOptions, SwapOptions
from vecfill.config.model import Model
from vecfill.migration.ending import abandon_migration, finish_migration
from vecfill.migration.fill import MigrationRun, run_migration
from vecfill.migration.rollback import roll_back_migration
from vecfill.migration.start import start_migration
from vecfill.migration.step_options import StepOptions
from vecfill.migration.swap import swap_migration
from vecfill.postgres import server_programs

NEW = Model(name="hash:16")
NEXT = replace(DOCS, column="embedding_next")
LOCKS = LockOptions(lock_timeout=0.1, lock_wait=0)

HNSW = "CREATE INDEX docs_near ON docs USING hnsw (embedding vector_cosine_ops) WITH (m='4')"
MISSING = "CREATE INDEX docs_missing ON docs (id) WHERE embedding IS NULL"


def searched_docs(connect: psycopg.Connection, database: str, rows: int = 20, *, partitioned: bool = False) -> None:
    """A tracked and filled table with a vector index, plain or partitioned."""
    connect.execute(
        "CREATE TABLE docs (id int, part int NOT NULL DEFAULT 1, title text, embedding vector(8),"
        " PRIMARY KEY (id, part))" + (" PARTITION BY LIST (part)" if partitioned else "")
    )
    if partitioned:
        connect.execute("CREATE TABLE docs_1 PARTITION OF docs FOR VALUES IN (1)")
        connect.execute("CREATE TABLE docs_2 PARTITION OF docs FOR VALUES IN (2)")
    connect.execute(f"INSERT INTO docs SELECT n, 1 + n % 2, 'title ' || n FROM generate_series(1, {rows}) n")
    connect.execute(HNSW)
    connect.execute(MISSING)
    track(DOCS, database=database)
    assert fill(database).exit_code == 0


def begin(database: str, model: Model = NEW, **more: Any):
    return start_migration(DOCS, model, database=database, step=StepOptions(locks=LOCKS, yes=True), **more)


def move(database: str, model: Model = NEW, **more: Any) -> MigrationRun:
    return run_migration(DOCS, model, database=database, options=replace(INLINE, **more), locks=LOCKS)


def end(database: str, act: Any = finish_migration, *, yes: bool = True):
    return act(DOCS, database=database, step=StepOptions(locks=LOCKS, yes=yes))


def give_up(database: str, **more: Any):
    return end(database, abandon_migration, **more)


def swap_it(
    database: str,
    model: Model = NEW,
    *,
    locks: LockOptions = LOCKS,
    dry_run: bool = False,
    yes: bool = False,
    **more: Any,
):
    step = StepOptions(locks=locks, dry_run=dry_run, yes=yes)
    return swap_migration(DOCS, model, database=database, options=SwapOptions(**more), step=step)


def swap_back(database: str, model: Model | None = None, *, locks: LockOptions = LOCKS, **more: Any):
    options, step = SwapOptions(**more), StepOptions(locks=locks)
    return roll_back_migration(DOCS, model, database=database, options=options, step=step)


def active(connect: psycopg.Connection, column: str = "embedding") -> tuple:
    return connect.execute("SELECT * FROM vecfill.active_model('docs', %s)", [column]).fetchone()


def schema(database: str, version: int, *arguments: str) -> str:
    """The schema, without the random words of newer versions."""
    program = server_programs.installed(version) / "bin" / "pg_dump"
    done = subprocess.run([program, "-s", *arguments, database], capture_output=True, text=True, check=True)
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def assert_schema_but_for_the_type(
    connect: psycopg.Connection,
    database: str,
    version: int,
    make: Callable[[], None],
    changes: Sequence[tuple[str, str]] = (),
) -> None:
    """The schema is the one of a table made anew, but for the dimension, and other changes; the table is lost."""
    untrack(DOCS, database=database)
    after = schema(database, version)
    connect.execute("DROP TABLE docs CASCADE")
    make()
    untrack(DOCS, database=database)
    expected = schema(database, version)
    for old, new in (("vector(8)", "vector(16)"), *changes):
        expected = expected.replace(old, new)
    assert after == expected


def phases(connect: psycopg.Connection) -> list[str]:
    return [name for (name,) in connect.execute("SELECT phase FROM vecfill.migration_phase ORDER BY id").fetchall()]


def indexes(connect: psycopg.Connection, column: str) -> dict[str, tuple[str, bool]]:
    """Definition from USING on, and validity, by name, of the indexes over a column."""
    rows = connect.execute(
        "SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid FROM pg_index i JOIN pg_class c"
        " ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace AND pg_get_indexdef(i.indexrelid) ~ %s",
        [rf"\m{column}\M"],
    ).fetchall()
    return {name: (definition.partition(" USING ")[2], valid) for name, definition, valid in rows}
