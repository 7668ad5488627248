"""What an encoder has asked of its API so far: counts for benchmarks, safe to read from any thread."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Usage:
    """A moment's account of one encoder.

    Attributes:
        requests: sent, those that were tried again included.
        tokens: that the API's answers count; an estimate of those of answers that do not say.
        throttled: answers with status 429.
        retries: requests that repeat another.
        bytes_sent, bytes_received: bodies as they go over the line, compressed or not; without headers.
        latencies: seconds of each request that gave vectors, from sending it to its last byte, in order of their end.
        first_vector_s: from the first request to the first vectors; None before.
        estimated_cost_usd: tokens at the price; None where that is not known.
    """

    requests: int = 0
    tokens: int = 0
    throttled: int = 0
    retries: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    latencies: tuple[float, ...] = ()
    first_vector_s: float | None = None
    estimated_cost_usd: float | None = None


class Meter:
    """Counts up to a ``Usage``."""

    def __init__(self, price: float | None) -> None:
        self._price, self._lock = price, threading.Lock()
        self._counts = dict.fromkeys(("requests", "tokens", "throttled", "retries", "bytes_sent", "bytes_received"), 0)
        self._latencies: list[float] = []
        self._started: float | None = None
        self._first: float | None = None

    def add(self, **counts: int) -> None:
        """Adds to some of the counts."""
        with self._lock:
            if self._started is None:
                self._started = time.perf_counter()
            for name, count in counts.items():
                self._counts[name] += count

    def answered(self, seconds: float) -> None:
        """Notes a request that gave vectors."""
        with self._lock:
            self._latencies.append(seconds)
            if self._first is None and self._started is not None:
                self._first = time.perf_counter() - self._started

    def usage(self) -> Usage:
        """What has been counted."""
        with self._lock:
            found = Usage(**self._counts, latencies=tuple(self._latencies), first_vector_s=self._first)
        cost = None if self._price is None else found.tokens * self._price / 1_000_000
        return replace(found, estimated_cost_usd=cost)
