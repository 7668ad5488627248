"""A side at work: one of the two models behind the same stages, from scratch table to scratch table."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from vecfill.bench.api.budget import Needs, within
from vecfill.bench.measure import Measured
from vecfill.bench.ours import inline_engine, ranges_of
from vecfill.bench.runners import Inline, warmed
from vecfill.encode.api.budget import RequestBudget
from vecfill.encode.device.learned_batches import MAX_BATCH_TOKENS
from vecfill.errors import VecfillError

LOCAL, API = "local", "api"
SIDES = (LOCAL, API)

COUNTED = ("requests", "tokens", "throttled", "retries", "bytes_sent", "bytes_received")
"""Counters of an API's client; see ``Usage``."""


@dataclass(kw_only=True)
class Side(Inline):
    """The in-process engine with one of the two models; the same code measures both.

    It encodes ``warm`` before anything is timed, then ``queries`` one by one, as a search does, and ``documents``. Only
    the API's requests go into ``ledger``.
    """

    warm: tuple[str, ...]
    queries: tuple[str, ...]
    documents: tuple[str, ...]
    ledger: RequestBudget
    needs: Needs
    _encoder: Any = field(default=None, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Loads the model, or connects; then times queries, one after the other, and encodes the retrieval set.

        Raises:
            BudgetError: the API's budget ended.
        """
        with within(self.ledger, self.needs):
            return self._prepared()

    def _prepared(self) -> dict[str, Any]:
        self._open()
        self._encoder, facts = warmed(self._encode)
        self._encoder.encode(list(self.warm), MAX_BATCH_TOKENS)
        self._encoder.encode_query(self.warm[0])
        before = self._usage()
        vectors, seconds = self._timed_queries()
        found = self._encoder.encode(list(self.documents), MAX_BATCH_TOKENS).vectors if self.documents else None
        return {
            **facts,
            "query_s": seconds,
            "query_vectors": vectors,
            "document_vectors": found,
            "usage": _difference(before, self._usage()),
        }

    def measure(self) -> Measured:
        """Fills the table. The usage has ``COUNTED``, each request's seconds, and those from the first to the last.

        Raises:
            BudgetError: the API's budget ended.
            VecfillError: a row got no vector.
        """
        ranges, before = ranges_of(self.work, "inline"), self._usage()
        with within(self.ledger, self.needs):
            found = self._fill(ranges)
        return replace(found, usage=_difference(before, self._usage()))

    def close(self) -> None:
        """Closes the connections, to the server and to the API."""
        super().close()
        if closing := getattr(self._encoder, "close", None):
            closing()

    def _open(self) -> None:
        self._engine, self._encode = inline_engine(self.work, self._spans, self.ledger)

    def _timed_queries(self) -> tuple[Any, list[float]]:
        """Vectors, float32 [q, dim], and the seconds of each."""
        vectors, seconds = [], []
        for text in self.queries:
            start = time.perf_counter()
            vectors.append(self._encoder.encode_query(text))
            seconds.append(time.perf_counter() - start)
        return np.stack(vectors), seconds

    def _usage(self) -> dict[str, Any]:
        usage = getattr(self._encoder, "usage", None)
        return asdict(usage) if usage is not None else {}


def _difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The usage between two readings. Seconds from the first request to the last answer are None without an answer."""
    if not after:
        return {}
    latencies, sent, answered = (
        list(after[name][len(before[name]) :]) for name in ("latencies", "sent_at", "answered_at")
    )
    counts = {name: after[name] - before[name] for name in COUNTED}
    if counts["requests"] < len(latencies):
        raise VecfillError("more answers than requests: please report this bug")
    window = max(answered) - min(sent) if answered else None
    return {**counts, "latencies": latencies, "first_vector_s": after["first_vector_s"], "window_s": window}
