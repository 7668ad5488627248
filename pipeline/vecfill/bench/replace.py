"""``vecfill bench replace``: the ways to a new model's vectors in a table with a vector index, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from vecfill.backfill.run import run
from vecfill.bench.bystander import bystander
from vecfill.bench.corpus import from_listings, repeated
from vecfill.bench.rounds import Progress, machine_of
from vecfill.bench.scratch import LEDGER, Scratch, Table, scratch
from vecfill.config.engine import EngineOptions
from vecfill.config.migrate import IndexOptions, MigrateOptions
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.errors import ConfigError, VecfillError
from vecfill.indexing.build import build_index
from vecfill.migration.fill import run_migration
from vecfill.migration.start import start_migration
from vecfill.postgres.database import Database
from vecfill.postgres.index_sql import WantedIndex
from vecfill.postgres.session import Session, reachable
from vecfill.target_tracking import track


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure: rows of the table, their dimension, which ways, and how indexes are built."""

    rows: int
    dim: int
    only: tuple[str, ...]
    indexes: IndexOptions


@dataclass(frozen=True, kw_only=True)
class Work:
    """A tracked scratch table and what a way does to it."""

    table: Table
    target: Target
    model: Model
    plan: Plan

    @property
    def database(self) -> Database:
        """Where it is."""
        return self.table.database

    def options(self, **more: Any) -> RunOptions:
        """The options of a run in this process."""
        return RunOptions(engine=EngineOptions(engine="inline"), yes=True, **more)

    def build(self) -> float:
        """Builds the vector index; returns the seconds."""
        started = time.perf_counter()
        index = WantedIndex(
            name=f"{self.table.relation.table.alias}_near",
            schema=self.target.table.partition(".")[0],
            table=self.table.name.as_string(),
            table_oid=self.table.relation.table.oid,
            partitioned=False,
            parent=None,
            parent_schema=None,
            rest=f"USING hnsw (embedding {self._classes()})",
        )
        with closing(Session(self.database)) as session:
            build_index(session, index, self.plan.indexes, "for the benchmark")
        return time.perf_counter() - started

    def _classes(self) -> str:
        with closing(self.database.connect()) as connection:
            row = connection.execute(
                "SELECT pg_catalog.format('%I.vector_cosine_ops', n.nspname) FROM pg_catalog.pg_extension AS e"
                " JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
            ).fetchone()
        return str(row[0]) if row else "vector_cosine_ops"


def _in_place(work: Work, index: str) -> dict[str, Any]:
    result = run(
        *(work.target, work.model),
        database=work.database,
        options=work.options(select="all", index=index),
        indexes=work.plan.indexes,
    )
    indexed = result.forecast.indexed if result.forecast else None
    return {
        "updated": result.updated,
        "index_s": sum(one.seconds for one in result.indexes),
        "forecast_s": indexed.keep_s if indexed else None,
        "forecast_build_s": indexed.build_s if indexed else None,
    }


def _beside(work: Work) -> dict[str, Any]:
    start_migration(work.target, work.model, database=work.database, options=MigrateOptions())
    started = time.perf_counter()
    done = run_migration(
        *(work.target, work.model), database=work.database, options=work.options(), indexes=work.plan.indexes
    )
    runs = done.filled.seconds + (done.drained.seconds if done.drained else 0.0)
    return {"updated": done.filled.updated, "index_s": max(0.0, time.perf_counter() - started - runs)}


def _fresh(work: Work) -> dict[str, Any]:
    result = run(*(work.target, work.model), database=work.database, options=work.options())
    return {"updated": result.updated, "index_s": work.build()}


@dataclass(frozen=True)
class Way:
    """One way; ``act`` returns the rows written and the seconds for indexes. ``old`` vectors are there before it."""

    name: str
    about: str
    act: Callable[[Work], dict[str, Any]]
    old: bool = True


WAYS = (
    Way("live", "`run --select all`: updates through the live index", lambda work: _in_place(work, "keep")),
    Way("in place", "`run --select all --index rebuild`", lambda work: _in_place(work, "rebuild")),
    Way("beside", "`migrate start` and `migrate run`: a column beside the old one", _beside),
    Way("fresh", "`run` into an empty column, then the index", _fresh, old=False),
)


def measure(plan: Plan, database: Database, progress: Progress) -> dict[str, Any]:
    """Measures each way on a table of its own, and returns the report as plain values.

    While a way works, another session reads and updates single rows; its longest statements are the longest waits.

    Raises:
        ConfigError: something cannot work as given.
        VecfillError: a way failed.
    """
    if unknown := set(plan.only) - {way.name for way in WAYS}:
        names = ", ".join(way.name for way in WAYS)
        raise ConfigError(f"--only {','.join(sorted(unknown))}: the ways are {names}")
    ways = [way for way in WAYS if not plan.only or way.name in plan.only]
    place = reachable(database)
    texts = repeated(from_listings(plan.rows).texts, plan.rows)
    with scratch(place) as schema:
        lines = []
        for number, way in enumerate(ways):
            lines.append(_line(schema, way, f"jobs_{number}", texts, plan))
            progress(f"{way.name}: {lines[-1]['seconds']:,.0f} s")
    return {"machine": machine_of(place), "rows": plan.rows, "dim": plan.dim, "ways": lines, "ratio": _ratio(lines)}


def _line(schema: Scratch, way: Way, name: str, texts: Sequence[str], plan: Plan) -> dict[str, Any]:
    """Measures one way."""
    table = schema.table(name, texts, plan.dim)
    target = Target(table=table.label, text="{text}", state_schema=f"{schema.schema}{LEDGER}")
    work = Work(table=table, target=target, model=Model(name=f"hash:{plan.dim}"), plan=plan)
    if way.old:
        _fill_old(table, plan.dim)
        work.build()
    track(target, database=table.database)
    before, wal = table.bytes(), table.wal_position()
    with bystander(table) as longest:
        started = time.perf_counter()
        found = way.act(work)
        seconds = time.perf_counter() - started
    if found["updated"] < plan.rows:
        raise VecfillError(f"{way.name} wrote {found['updated']:,} of {plan.rows:,} rows: please report this bug")
    return {
        "name": way.name,
        "about": way.about,
        "seconds": seconds,
        "wal_bytes": table.wal_position() - wal,
        "bytes_before": before,
        "bytes_after": table.bytes(),
        "longest_read_s": longest["read"],
        "longest_write_s": longest["write"],
        **found,
    }


def _fill_old(table: Table, dim: int) -> None:
    """Gives each row a random vector, as those of a model that nobody knows any more, without dead rows."""
    fill = sql.SQL(
        "TRUNCATE {table}; INSERT INTO {table} (id, text, embedding) SELECT id, text,"
        " ARRAY(SELECT (random() - 0.5)::float4 FROM generate_series(1, {dim}) WHERE id IS NOT NULL)::{type}"
        " FROM {source} ORDER BY id; ANALYZE {table}"
    ).format(table=table.name, source=table.source, dim=sql.Literal(dim), type=table.vector_type)
    with closing(table.database.connect()) as connection:
        for statement in fill.as_string().split(";"):
            connection.execute(statement.encode())


def _ratio(lines: Sequence[dict[str, Any]]) -> float | None:
    """How many times as fast as through the live index the rebuild was; None if one of them was not measured."""
    seconds = {line["name"]: line["seconds"] for line in lines}
    return seconds["live"] / seconds["in place"] if {"live", "in place"} <= seconds.keys() else None
