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
        bytes_sent, bytes_received: bodies as they go over the line, compressed or not, of requests that were answered,
            be it with an error; without headers.
        latencies: seconds of each request that gave vectors, from sending it to its last byte, in order of their end.
        sent_at: when each request was sent, by ``time.perf_counter``.
        answered_at: when the last byte of each answer that gave vectors was there, by the same clock.
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
    sent_at: tuple[float, ...] = ()
    answered_at: tuple[float, ...] = ()
    first_vector_s: float | None = None
    estimated_cost_usd: float | None = None


class Meter:
    """Counts up to a ``Usage``."""

    def __init__(self, price: float | None) -> None:
        self._price, self._lock = price, threading.Lock()
        self._counts = dict.fromkeys(("requests", "tokens", "throttled", "retries", "bytes_sent", "bytes_received"), 0)
        self._latencies: list[float] = []
        self._sent_at: list[float] = []
        self._answered_at: list[float] = []

    def send(self, *, again: bool) -> None:
        """Counts a request that is about to be sent."""
        self.add(requests=1, retries=int(again))
        with self._lock:
            self._sent_at.append(time.perf_counter())

    def add(self, **counts: int) -> None:
        """Adds to some of the counts."""
        with self._lock:
            for name, count in counts.items():
                self._counts[name] += count

    def answered(self, seconds: float, at: float) -> None:
        """Notes a request that gave vectors: after how many seconds, and when."""
        with self._lock:
            self._latencies.append(seconds)
            self._answered_at.append(at)

    def usage(self) -> Usage:
        """What has been counted."""
        with self._lock:
            found = Usage(
                **self._counts,
                latencies=tuple(self._latencies),
                sent_at=tuple(self._sent_at),
                answered_at=tuple(self._answered_at),
                first_vector_s=min(self._answered_at) - self._sent_at[0] if self._answered_at else None,
            )
        cost = None if self._price is None else found.tokens * self._price / 1_000_000
        return replace(found, estimated_cost_usd=cost)
