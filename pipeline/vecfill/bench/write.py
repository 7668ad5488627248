"""``vecfill bench write``: ways to write vectors into a table, round by round in one run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from vecfill.bench.measure import median
from vecfill.bench.ours import Work
from vecfill.bench.plain_writers import BATCH_ROWS, Bare, ByRow
from vecfill.bench.rounds import Entry, Progress, machine_of, ratios, run_rounds
from vecfill.bench.runners import WriterAlone
from vecfill.bench.scratch import Table, scratch
from vecfill.bench.worker import Runner, Worker
from vecfill.config.model import Model
from vecfill.postgres.database import Database
from vecfill.postgres.session import reachable

BY_ROW_MOST, FAR_BY_ROW_MOST = 2_000, 300
"""Rows for an UPDATE a row: enough for its rate, and all rows would take minutes."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure: rows of the table, their dimension, rows a block, writers beside the single one."""

    rows: int
    dim: int
    rounds: int
    batch: int
    writers: int


@dataclass(frozen=True)
class Way:
    """One way to write; ``make`` gives its runner, which works over the slower connection if ``far``."""

    name: str
    about: str
    make: Callable[[Work, Plan], Runner]
    far: bool = False
    tracked: bool = False


def _by_row(most: int) -> Callable[[Work, Plan], Runner]:
    return lambda work, plan: ByRow(work=work, rows=min(plan.rows, most))


def _writer(work: Work, plan: Plan) -> Runner:
    return WriterAlone(work=work, batch=plan.batch)


def _writers(work: Work, plan: Plan) -> Runner:
    return WriterAlone(work=work, batch=plan.batch, writers=plan.writers)


_UPDATE, _MANY = "an UPDATE a row, each committed by itself", "executemany of the same UPDATE in one transaction"
_BARE = f"COPY BINARY and one UPDATE … FROM a batch of {BATCH_ROWS:,} rows, no accounting"
_WRITER, _WRITERS = "vecfill's write stage, one writer", "vecfill's write stage, several writers"

WAYS = (
    Way("update", _UPDATE, _by_row(BY_ROW_MOST)),
    Way("executemany", _MANY, lambda work, plan: ByRow(work=work, rows=plan.rows, many=True)),
    Way("bare copy+join", _BARE, lambda work, _: Bare(work=work)),
    Way("vecfill", _WRITER, _writer),
    Way("vecfill, tracked", f"{_WRITER}, with the ledger of a tracked target", _writer, tracked=True),
    Way("vecfill, writers", _WRITERS, _writers),
    Way("update, far", _UPDATE, _by_row(FAR_BY_ROW_MOST), far=True),
    Way("vecfill, far", _WRITER, _writer, far=True),
    Way("vecfill, writers, far", _WRITERS, _writers, far=True),
)

COMPARED = (
    ("vecfill", "update"),
    ("vecfill", "executemany"),
    ("vecfill", "bare copy+join"),
    ("vecfill, tracked", "vecfill"),
    ("vecfill, writers", "vecfill"),
    ("vecfill, far", "update, far"),
    ("vecfill, writers, far", "update, far"),
)
"""The ratios of the report, each within its round."""


def measure(
    plan: Plan, database: Database, progress: Progress, far: tuple[Database, float] | None = None
) -> dict[str, Any]:
    """Measures every way, round by round, and returns the report as plain values.

    Args:
        plan: what.
        database: where the scratch schema goes; nothing of it remains.
        progress: is called with a line for each step.
        far: the same database over a slower connection, and the seconds of its round trip: measures three ways more.

    Raises:
        ConfigError: something cannot work as given.
        VecfillError: a way failed.
    """
    place = reachable(database)
    about = machine_of(place)
    ways = [way for way in WAYS if far or not way.far]
    with scratch(place) as schema, ExitStack() as stack:
        texts = [_text(number) for number in range(plan.rows)]
        near, tracked = schema.table("written", texts, plan.dim), schema.tracked(schema.table("kept", texts, plan.dim))
        distant = replace(near, database=far[0]) if far else near
        entries = [
            Entry(
                worker=_worker(way, plan, tracked if way.tracked else distant if way.far else near),
                table=tracked if way.tracked else near,
            )
            for way in ways
        ]
        for entry in entries:
            progress(f"{entry.worker.name}: starts and warms up")
            (entry.table or near).refill()
            stack.enter_context(entry.worker).prepare()
        run_rounds(entries, plan.rounds, progress)
    lines = [
        {
            "name": way.name,
            "about": way.about + (f", over a round trip of {far[1] * 1e3:g} ms" if far and way.far else ""),
            "rows": entry.measured[0].rows,
            "rows_per_s": median(entry.rates),
            "rounds": entry.rates,
            "wal_bytes_per_row": median(entry.wal_bytes_per_row),
        }
        for way, entry in zip(ways, entries, strict=True)
    ]
    rates = {one.worker.name: one.rates for one in entries}
    return {
        "machine": about,
        **asdict(plan),
        "round_trip_s": far[1] if far else None,
        "ways": lines,
        "ratios": ratios(rates, COMPARED),
    }


def _text(number: int) -> str:
    return f"Row {number} of the benchmark has a text of a hundred characters, which is what a job listing's title has."


def _worker(way: Way, plan: Plan, table: Table) -> Worker:
    return Worker(way.name, way.make(Work(table=table, model=Model(name=f"hash:{plan.dim}")), plan))
