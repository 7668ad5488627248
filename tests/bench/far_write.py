"""``bench write`` over a slower connection too, for the figures of docs/benchmarks.md: a proxy delays each piece.

.venv/bin/python -m tests.bench.far_write postgresql://localhost/app [ROWS [ROUNDS]]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tests.delay import delayed

from vecfill.bench.report import print_write
from vecfill.bench.write import Plan, measure
from vecfill.postgres.database import Database
from vecfill.postgres.session import reachable

ROUND_TRIP_S = 0.002
"""Of a database in the same region, in another zone."""


def measure_far(plan: Plan, database: Database, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measures every way, those over the slower connection too."""
    place = reachable(database)
    with delayed(place, ROUND_TRIP_S) as far:
        return measure(plan, place, progress, (far, ROUND_TRIP_S))


def main(address: str, rows: str = "40000", rounds: str = "3") -> None:
    plan = Plan(rows=int(rows), dim=384, batch=4_096, rounds=int(rounds), writers=4)
    print_write(measure_far(plan, Database(address), lambda line: print(line, file=sys.stderr)))


if __name__ == "__main__":
    main(*sys.argv[1:])
