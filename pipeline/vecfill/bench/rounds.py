"""The measuring loop of all three verbs: every contender in each round, in rotated order, each on a fresh table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from vecfill.bench.device import machine
from vecfill.bench.measure import Measured, ratio, rotated, whole_rate
from vecfill.bench.scratch import Table
from vecfill.bench.worker import Worker
from vecfill.errors import VecfillError
from vecfill.postgres.database import Database

Progress = Callable[[str], None]
Rate = Callable[[Measured], float | None]


@dataclass(kw_only=True)
class Entry:
    """A contender at work.

    Attributes:
        worker: its process, which stays between rounds.
        table: the scratch table it fills, emptied before each measurement; None where it writes nothing.
        rate: rows a second of one measurement.
        measured: one measurement a round.
        wal_bytes_per_row: bytes of WAL that the server wrote in each round, a row; empty without a table.
    """

    worker: Worker
    table: Table | None
    rate: Rate = whole_rate
    measured: list[Measured] = field(default_factory=list)
    wal_bytes_per_row: list[float | None] = field(default_factory=list)

    @property
    def rates(self) -> list[float | None]:
        """Rows a second of each round."""
        return [self.rate(one) for one in self.measured]

    def measure(self) -> float | None:
        """Measures once; returns the rate in rows/s.

        Raises:
            VecfillError: the contender failed, or the table does not hold the rows that it reports.
        """
        if self.table is None:
            self.measured.append(self.worker.measure())
        else:
            self._fill(self.table)
        return self.rate(self.measured[-1])

    def _fill(self, table: Table) -> None:
        table.refill()
        before = table.wal_position()
        found = self.worker.measure()
        self.wal_bytes_per_row.append((table.wal_position() - before) / found.rows)
        if (written := table.vectors()) != found.rows:
            name = self.worker.name
            raise VecfillError(f"{name} reports {found.rows} rows but the table has {written}: please report this bug")
        self.measured.append(found)


def run_rounds(entries: Sequence[Entry], rounds: int, progress: Progress) -> None:
    """Measures each entry once a round and reports each rate."""
    for turn in range(rounds):
        for entry in rotated(entries, turn):
            rate = entry.measure()
            shown = "too few blocks" if rate is None else f"{rate:,.0f} rows/s"
            progress(f"round {turn + 1} of {rounds}: {entry.worker.name}: {shown}")


def ratios(
    rates: Mapping[str, Sequence[float | None]], compared: Sequence[tuple[str, str]]
) -> list[dict[str, str | float]]:
    """The ratio of each pair of contenders that took part, each within its round, as the report has it."""
    return [
        {"contender": name, "against": other, **asdict(found)}
        for name, other in compared
        if (found := ratio(rates.get(name, ()), rates.get(other, ())))
    ]


def machine_of(database: Database) -> dict[str, Any]:
    """This machine and its libraries, and the server's version."""
    with closing(database.connect()) as connection:
        row = connection.execute("SELECT pg_catalog.current_setting('server_version')").fetchone()
    return machine() | {"postgresql": str(row[0]) if row else ""}
