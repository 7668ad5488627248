"""A side at work: the model behind the same stages, from the scratch table to the scratch table."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vecfill.bench.measure import Measured
from vecfill.bench.ours import Inline, ranges_of, timed_stream
from vecfill.encode.encoder import MOST_TOKENS
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
        usage: what the API was asked meanwhile, ``COUNTED`` and the seconds of each request; empty for a local model.
    """

    tokens: int
    usage: dict[str, Any]


@dataclass(kw_only=True)
class Side(Inline):
    """The in-process engine with one of the two models; both are measured by the same code.

    Attributes:
        warm: texts that are encoded before anything is timed.
        queries: texts whose vectors are asked for one by one, as a search does.
        documents: texts of the retrieval set.
    """

    warm: tuple[str, ...]
    queries: tuple[str, ...]
    documents: tuple[str, ...] = ()
    _encoder: Any = field(default=None, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Loads the model, or connects; then times queries, one after the other, and encodes the retrieval set."""
        self._open()
        self._encoder = self._encode.warm()
        loaded = time.monotonic()
        self._encoder.encode(list(self.warm), MOST_TOKENS)
        self._encoder.encode_query(self.warm[0])
        before = self._used()
        vectors, seconds = self._asked()
        found = self._encoder.encode(list(self.documents), MOST_TOKENS).vectors if self.documents else None
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
        """Fills the table."""
        ranges, before = ranges_of(self.job, "inline"), self._used()
        measured, tokens = timed_stream(self._engine, ranges)
        usage = _difference(before, self._used())
        return Filled(
            seconds=measured.seconds, marks=measured.marks, stages=measured.stages, tokens=tokens, usage=usage
        )

    def close(self) -> None:
        """Closes the connections, to the server and to the API."""
        super().close()
        if closing := getattr(self._encoder, "close", None):
            closing()

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
    return {**counts, "latencies": seconds, "first_vector_s": after["first_vector_s"]}
