"""A session that uses a table while something else works on it, and notes its longest statements."""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing
from types import TracebackType
from typing import Self

from psycopg import sql

from vecfill.bench.scratch import Table

PAUSE_S = 0.02


class Bystander:
    """Reads and updates single rows of a scratch table, in turn, each in a transaction of its own.

    Attributes:
        longest: seconds of its longest ``read`` and of its longest ``write``.
    """

    def __init__(self, table: Table) -> None:
        self.longest = {"read": 0.0, "write": 0.0}
        self._table, self._over = table, threading.Event()
        self._thread = threading.Thread(target=self._work, name="bystander", daemon=True)
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def _work(self) -> None:
        queries = {
            "read": sql.SQL("SELECT text FROM {} WHERE id = $1").format(self._table.name),
            "write": sql.SQL("UPDATE {} SET text = text WHERE id = $1").format(self._table.name),
        }
        try:
            with closing(self._table.database.connect()) as connection:
                while not self._over.wait(PAUSE_S):
                    for kind, query in queries.items():
                        started = time.perf_counter()
                        connection.execute(query, (random.randint(1, self._table.rows),))  # noqa: S311
                        self.longest[kind] = max(self.longest[kind], time.perf_counter() - started)
        except Exception as error:
            self._failure = error
