"""``vecfill bench write``: ways to bring vectors into a table, round by round in one run, and the account of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from psycopg import sql

from vecfill.bench.bare import BATCH_ROWS, Bare
from vecfill.bench.byrow import ByRow
from vecfill.bench.contenders import job_of
from vecfill.bench.delay import delayed
from vecfill.bench.device import machine
from vecfill.bench.measure import Measured, median, ratio, rotated, whole_rate
from vecfill.bench.pipeline import server_version
from vecfill.bench.scratch import Table, scratch
from vecfill.bench.worker import Runner, Worker
from vecfill.bench.writers import Writers
from vecfill.config.model import Model
from vecfill.errors import VecfillError
from vecfill.job import Job
from vecfill.postgres.database import Database
from vecfill.postgres.session import reachable

ROUND_TRIP_S = 0.002
"""Of the line that is put between: a database in the same region, another zone."""

BY_ROW_MOST, FAR_BY_ROW_MOST = 2_000, 300
"""Rows that an UPDATE a row is measured on: their rate tells all, and the rest would take minutes."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be measured: rows of the table, their dimension, rows a batch, writers beside the one."""

    rows: int
    dim: int
    rounds: int
    batch: int
    writers: int


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to write.

    Attributes:
        name: as in the report.
        about: what it is, in a few words.
        make: its runner, from the job and the plan.
        far: behind the delayed line.
    """

    name: str
    about: str
    make: Callable[[Job, Plan], Runner]
    far: bool = False


UPDATE, MANY, BARE, OURS, SEVERAL = "update", "executemany", "bare copy+join", "vecfill", "vecfill, writers"
FAR_UPDATE, FAR_OURS, FAR_SEVERAL = "update, far", "vecfill, far", "vecfill, writers, far"

WAYS = (
    Way(
        name=UPDATE,
        about="an UPDATE a row, each committed by itself",
        make=lambda job, plan: ByRow(job=job, rows=min(plan.rows, BY_ROW_MOST)),
    ),
    Way(
        name=MANY,
        about="executemany of the same UPDATE in one transaction",
        make=lambda job, plan: ByRow(job=job, rows=plan.rows, many=True),
    ),
    Way(
        name=BARE,
        about=f"COPY BINARY and one UPDATE … FROM a batch of {BATCH_ROWS:,} rows, no accounting",
        make=lambda job, _: Bare(job=job),
    ),
    Way(
        name=OURS,
        about="vecfill's write stage, one writer",
        make=lambda job, plan: Writers(job=job, batch=plan.batch),
    ),
    Way(
        name=SEVERAL,
        about="vecfill's write stage, several writers",
        make=lambda job, plan: Writers(job=job, batch=plan.batch, writers=plan.writers),
    ),
    Way(
        name=FAR_UPDATE,
        about="an UPDATE a row, each committed by itself, over a round trip of 2 ms",
        make=lambda job, plan: ByRow(job=job, rows=min(plan.rows, FAR_BY_ROW_MOST)),
        far=True,
    ),
    Way(
        name=FAR_OURS,
        about="vecfill's write stage, one writer, over a round trip of 2 ms",
        make=lambda job, plan: Writers(job=job, batch=plan.batch),
        far=True,
    ),
    Way(
        name=FAR_SEVERAL,
        about="vecfill's write stage, several writers, over a round trip of 2 ms",
        make=lambda job, plan: Writers(job=job, batch=plan.batch, writers=plan.writers),
        far=True,
    ),
)

COMPARED = (
    (OURS, UPDATE),
    (OURS, MANY),
    (OURS, BARE),
    (SEVERAL, OURS),
    (FAR_OURS, FAR_UPDATE),
    (FAR_SEVERAL, FAR_UPDATE),
)
"""The ratios that are told, each within its round."""


@dataclass
class _Place:
    """A way at work: its process, and what was measured."""

    way: Way
    worker: Worker
    measured: list[Measured]
    wal: list[float]


def measure(plan: Plan, database: Database, say: Say) -> dict[str, Any]:
    """Measures every way, round by round, and returns the report as plain values.

    Args:
        plan: what.
        database: where the scratch schema goes; nothing of it remains.
        say: is told what is going on.

    Raises:
        ConfigError: something cannot work as given.
        VecfillError: a way failed.
    """
    place = reachable(database)
    about = machine() | {"postgresql": server_version(place)}
    with scratch(place) as schema, ExitStack() as stack:
        table = schema.table("written", [_text(n) for n in range(plan.rows)], plan.dim)
        far = stack.enter_context(delayed(place, ROUND_TRIP_S))
        places = []
        for way in WAYS:
            say(f"{way.name}: starts and warms up")
            table.refill()
            places.append(_placed(way, plan, table, far if way.far else place))
            stack.enter_context(places[-1].worker).prepare()
        for turn in range(plan.rounds):
            _round(turn, plan.rounds, places, table, say)
    return _report(plan, about, places)


def _text(number: int) -> str:
    return f"Row {number} of the benchmark has a text of a hundred characters, which is what a job listing's title has."


def _placed(way: Way, plan: Plan, table: Table, database: Database) -> _Place:
    job = replace(job_of(table, Model(name=f"hash:{plan.dim}")), database=database)
    return _Place(way, Worker(way.name, way.make(job, plan)), [], [])


def _round(turn: int, rounds: int, places: Sequence[_Place], table: Table, say: Say) -> None:
    by_name = {one.way.name: one for one in places}
    for name in rotated(list(by_name), turn):
        place = by_name[name]
        table.refill()
        before = _wal(table.database)
        measured = place.worker.measure()
        place.wal.append((_wal(table.database) - before) / measured.rows)
        _check_written(table, name, measured)
        place.measured.append(measured)
        say(f"round {turn + 1} of {rounds}: {name}: {whole_rate(measured):,.0f} rows/s")


def _wal(database: Database) -> int:
    """Bytes of WAL that the server has ever written."""
    with closing(database.connect()) as connection:
        row = connection.execute(
            "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')"
        ).fetchone()
    return int(row[0]) if row else 0


def _check_written(table: Table, name: str, measured: Measured) -> None:
    query = sql.SQL("SELECT pg_catalog.count(embedding) FROM {}").format(table.relation.table.name)
    with closing(table.database.connect()) as connection:
        row = connection.execute(query).fetchone()
    if row is None or row[0] != measured.rows:
        raise VecfillError(f"{name} says that it wrote {measured.rows} rows, the table has {row}: please report this")


def _report(plan: Plan, about: dict[str, Any], places: Sequence[_Place]) -> dict[str, Any]:
    rates = {one.way.name: [whole_rate(each) for each in one.measured] for one in places}
    return {
        "machine": about,
        **asdict(plan),
        "round_trip_s": ROUND_TRIP_S,
        "ways": [
            {
                "name": one.way.name,
                "about": one.way.about,
                "rows": one.measured[0].rows,
                "rows_per_s": median(rates[one.way.name]),
                "rounds": rates[one.way.name],
                "wal_bytes_per_row": median(one.wal),
            }
            for one in places
        ],
        "ratios": [
            {"contender": name, "against": other, **asdict(found)}
            for name, other in COMPARED
            if (found := ratio(rates[name], rates[other]))
        ],
    }
