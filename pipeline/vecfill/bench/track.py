"""``vecfill bench track``: what the triggers of tracking cost the application, round by round in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import sql

from vecfill.bench.measure import median, rotated
from vecfill.bench.rounds import Progress, machine_of
from vecfill.bench.scratch import Scratch, Table, scratch
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.session import reachable

SINGLE_ROWS = 400
"""Rows updated one by one, each in a transaction of its own."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure: rows of the table, and rounds."""

    rows: int
    rounds: int


@dataclass(frozen=True)
class Edit:
    """What an application does; ``seconds`` gets the table and its rows and returns the seconds that a row took."""

    name: str
    seconds: Callable[[Connection, Table, int], float]


def _each(connection: Connection, table: Table, rows: int) -> float:
    """The median of the statements."""
    query = sql.SQL("UPDATE {} SET text = $1 WHERE id = $2").format(table.name)
    times = []
    for number in range(1, min(rows, SINGLE_ROWS) + 1):
        start = time.perf_counter()
        connection.execute(query, (f"another text of row {number}", number))
        times.append(time.perf_counter() - start)
    return median(times) or 0.0


def _all(statement: LiteralString) -> Callable[[Connection, Table, int], float]:
    def seconds(connection: Connection, table: Table, _: int) -> float:
        query = sql.SQL(statement).format(table=table.name, source=table.source)
        start = time.perf_counter()
        edited = connection.execute(query).rowcount
        return (time.perf_counter() - start) / edited

    return seconds


def _copy(connection: Connection, table: Table, rows: int) -> float:
    query = sql.SQL("COPY {} (id, text) FROM STDIN").format(table.name)
    start = time.perf_counter()
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        for number in range(rows + 1, 2 * rows + 1):
            copy.write_row((number, f"a text of row {number}"))
    return (time.perf_counter() - start) / rows


EDITS = (
    Edit("UPDATE of a text, row by row", _each),
    Edit("UPDATE of another column", _all("UPDATE {table} SET seen = seen + 1")),
    Edit("UPDATE of the text", _all("UPDATE {table} SET text = text || '.'")),
    Edit("INSERT", _all("INSERT INTO {table} (id, text) SELECT id + 1000000000, text FROM {source}")),
    Edit("COPY", _copy),
)


def measure(plan: Plan, database: Database, progress: Progress) -> dict[str, Any]:
    """Measures each edit on a tracked table and on its twin without triggers, and returns the report as plain values.

    Raises:
        ConfigError: the role may not make a schema or triggers.
    """
    place = reachable(database)
    about = machine_of(place)
    found: dict[str, dict[bool, list[float]]] = {edit.name: {False: [], True: []} for edit in EDITS}
    with scratch(place) as schema, closing(place.connect()) as connection:
        tables = {False: _table(schema, "plain", plan), True: schema.tracked(_table(schema, "tracked", plan))}
        for turn in range(plan.rounds):
            for edit in EDITS:
                for tracked in rotated((False, True), turn):
                    tables[tracked].refill()
                    found[edit.name][tracked].append(edit.seconds(connection, tables[tracked], plan.rows))
            progress(f"round {turn + 1} of {plan.rounds}")
        ledger_bytes = tables[True].ledger_bytes_per_row()
    return {"machine": about, "rows": plan.rows, "rounds": plan.rounds, "ledger_bytes_per_row": ledger_bytes} | {
        "edits": [_line(name, times[False], times[True]) for name, times in found.items()]
    }


def _table(schema: Scratch, name: str, plan: Plan) -> Table:
    table = schema.table(name, [f"a text of row {number}" for number in range(plan.rows)], 8)
    with closing(table.database.connect()) as connection:
        connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN seen int NOT NULL DEFAULT 0").format(table.name))
    return table


def _line(name: str, plain: list[float], tracked: list[float]) -> dict[str, Any]:
    """Microseconds a row, medians of the rounds; the ratio and the difference within each round, medians too."""
    pairs = list(zip(plain, tracked, strict=True))
    return {
        "name": name,
        "plain_us": 1e6 * (median(plain) or 0.0),
        "tracked_us": 1e6 * (median(tracked) or 0.0),
        "ratio": median([b / a for a, b in pairs]),
        "more_us": 1e6 * (median([b - a for a, b in pairs]) or 0.0),
    }
