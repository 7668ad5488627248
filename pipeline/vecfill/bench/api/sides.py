"""A side at work: the model behind the same stages, from the scratch table to the scratch table."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vecfill.bench.api.budget import Needs, within
from vecfill.bench.measure import Measured
from vecfill.bench.ours import Inline, ranges_of, timed_stream
from vecfill.bench.watch import WatchedEncode
from vecfill.encode.api.budget import RequestBudget
from vecfill.encode.encoder import MAX_BATCH_TOKENS
from vecfill.errors import VecfillError

LOCAL, API = "local", "api"
SIDES = (LOCAL, API)

COUNTED = ("requests", "tokens", "throttled", "retries", "bytes_sent", "bytes_received")
"""What grows while an API is asked; see ``Usage``."""


@dataclass(frozen=True, kw_only=True)
class Filled(Measured):
    """A table that was filled once.

    Attributes:
        tokens: before truncation, as this side's encoder counts them.
        truncated: rows whose text was cut on this machine at the model's length.
        usage: what the API was asked meanwhile, ``COUNTED``, the seconds of each request and those from the first
            request to the last answer; empty for a local model.
    """

    tokens: int
    truncated: int
    usage: dict[str, Any]


@dataclass(kw_only=True)
class Side(Inline):
    """The in-process engine with one of the two models; both are measured by the same code.

    Attributes:
        warm: texts that are encoded before anything is timed.
        queries: texts whose vectors are asked for one by one, as a search does.
        documents: texts of the retrieval set.
        ledger: the API's budget, with what was spent on it before; nothing ever is on a local model.
        needs: what the whole comparison takes of the API.
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
            BudgetError: the API's budget does not reach that far.
        """
        with within(self.ledger, self.needs):
            return self._prepared()

    def _prepared(self) -> dict[str, Any]:
        self._open()
        self._encoder = self._encode.warm()
        loaded = time.monotonic()
        self._encoder.encode(list(self.warm), MAX_BATCH_TOKENS)
        self._encoder.encode_query(self.warm[0])
        before = self._used()
        vectors, seconds = self._asked()
        found = self._encoder.encode(list(self.documents), MAX_BATCH_TOKENS).vectors if self.documents else None
        return {
            "loaded": loaded,
            "dtype": self._encoder.dtype,
            "device": self._encoder.device,
            "query_s": seconds,
            "query_vectors": vectors,
            "document_vectors": found,
            "usage": _difference(before, self._used()),
        }

    def measure(self) -> Filled:
        """Fills the table.

        Raises:
            BudgetError: the API's budget does not reach that far.
            VecfillError: a row got no vector.
        """
        ranges, before = ranges_of(self.job, "inline"), self._used()
        with within(self.ledger, self.needs):
            measured, texts = timed_stream(self._engine, ranges)
        usage = _difference(before, self._used())
        return Filled(
            seconds=measured.seconds,
            marks=measured.marks,
            stages=measured.stages,
            tokens=texts.tokens,
            truncated=texts.truncated,
            usage=usage,
        )

    def close(self) -> None:
        """Closes the connections, to the server and to the API."""
        super().close()
        if closing := getattr(self._encoder, "close", None):
            closing()

    def _stage(self) -> WatchedEncode:
        return WatchedEncode(self.job.encode, self._spans, self.ledger)

    def _asked(self) -> tuple[Any, list[float]]:
        """Float32 [q, dim], and the seconds of each."""
        vectors, seconds = [], []
        for text in self.queries:
            start = time.perf_counter()
            vectors.append(self._encoder.encode_query(text))
            seconds.append(time.perf_counter() - start)
        return np.stack(vectors), seconds

    def _used(self) -> dict[str, Any]:
        usage = getattr(self._encoder, "usage", None)
        return asdict(usage) if usage is not None else {}


def _difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What was used between two accounts."""
    if not after:
        return {}
    counts = {name: after[name] - before[name] for name in COUNTED}
    seconds = list(after["latencies"][len(before["latencies"]) :])
    if counts["requests"] < len(seconds):
        raise VecfillError("more answers than requests: please report this")
    return {
        **counts,
        "latencies": seconds,
        "first_vector_s": after["first_vector_s"],
        "window_s": _window(before, after),
    }


def _window(before: dict[str, Any], after: dict[str, Any]) -> float | None:
    """Seconds from the first request to the last answer that came between two accounts; None without an answer."""
    sent, answered = (after[name][len(before[name]) :] for name in ("sent_at", "answered_at"))
    return max(answered) - min(sent) if answered else None
