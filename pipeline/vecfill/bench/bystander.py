"""A session that uses a table while something else works on it, and notes its longest statements."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from psycopg import sql

from vecfill.background import in_background
from vecfill.bench.scratch import Table

PAUSE_S = 0.02


@contextmanager
def bystander(table: Table) -> Iterator[dict[str, float]]:
    """Reads and updates single rows of a scratch table during the body, in turn, each in a transaction of its own.

    Yields:
        Seconds of its longest ``read`` and of its longest ``write``.
    """
    longest, over = {"read": 0.0, "write": 0.0}, threading.Event()
    queries = {
        "read": sql.SQL("SELECT text FROM {} WHERE id = $1").format(table.name),
        "write": sql.SQL("UPDATE {} SET text = text WHERE id = $1").format(table.name),
    }

    def work() -> None:
        with closing(table.database.connect()) as connection:
            while not over.wait(PAUSE_S):
                for kind, query in queries.items():
                    started = time.perf_counter()
                    connection.execute(query, (random.randint(1, table.rows),))  # noqa: S311
                    longest[kind] = max(longest[kind], time.perf_counter() - started)

    with in_background("bystander", work, over.set):
        yield longest
