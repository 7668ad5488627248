"""The stages with a clock at their door, for the timeline of a run."""

from __future__ import annotations

import threading
import time
from typing import Any

import pyarrow as pa

from vecfill.bench.measure import Span
from vecfill.encode.api.budget import Budget
from vecfill.encode.stage import EncodeSpec
from vecfill.postgres.database import Database
from vecfill.postgres.relation import Relation
from vecfill.read.units import PageRange


class Spans:
    """When each stage was at work; stages call from threads of their own."""

    def __init__(self) -> None:
        self.restart()

    def __reduce__(self) -> tuple[type[Spans], tuple[()]]:
        return Spans, ()

    def restart(self) -> None:
        """Forgets everything and starts the clock."""
        self._start, self._lock = time.perf_counter(), threading.Lock()
        self._found: dict[str, list[Span]] = {}

    def call(self, stage: str, work: Any, item: Any) -> pa.Table:
        """Calls ``work(item)`` and notes when."""
        begun = time.perf_counter()
        table = work(item)
        ended = time.perf_counter()
        with self._lock:
            span = (begun - self._start, ended - self._start, int(table.num_rows))
            self._found.setdefault(stage, []).append(span)
        return table

    def found(self) -> dict[str, list[Span]]:
        """The spans by stage."""
        with self._lock:
            return {stage: list(spans) for stage, spans in self._found.items()}


class WatchedRead(Read):
    """``Read``, watched."""

    def __init__(self, database: Database, relation: Relation, spans: Spans) -> None:
        super().__init__(database, relation)
        self._spans = spans

    def __call__(self, pages: PageRange) -> pa.Table:
        """See ``Read``."""
        return self._spans.call("read", super().__call__, pages)


class WatchedEncode(Encode):
    """``Encode``, watched."""

    def __init__(self, spec: EncodeSpec, spans: Spans, budget: Budget | None = None) -> None:
        super().__init__(spec, budget)
        self._spans = spans

    def __call__(self, table: pa.Table) -> pa.Table:
        """See ``Encode``."""
        return self._spans.call("encode", super().__call__, table)


class WatchedWrite(Write):
    """``Write``, watched."""

    def __init__(self, database: Database, relation: Relation, spans: Spans) -> None:
        super().__init__(database, relation)
        self._spans = spans

    def __call__(self, table: pa.Table) -> pa.Table:
        """See ``Write``."""
        return self._spans.call("write", super().__call__, table)
