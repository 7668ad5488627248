"""What an encoder has sent to its API, request by request: the facts that a benchmark compares. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SUMMED = ("tokens", "throttled", "bytes_sent", "bytes_received")


@dataclass(kw_only=True)
class SentRequest:
    """One request and its answer.

    Attributes:
        is_retry: whether it repeats another.
        charged: tokens booked on the budget: those that the API counted, else the most that the texts can have; 0 if
            the API did not accept the request.
        tokens: tokens that the answer counts, an estimate where it does not say; 0 without an answer.
        throttled: whether the answer was HTTP 429.
        bytes_sent, bytes_received: bodies as transferred, compressed or not, of requests that were answered, errors
            included; without headers.
        sent_at: ``time.perf_counter`` at sending.
        answered_at: ``time.perf_counter`` at the last byte of an answer with valid vectors; None without one.
    """

    is_retry: bool
    charged: int
    sent_at: float
    tokens: int = 0
    throttled: bool = False
    bytes_sent: int = 0
    bytes_received: int = 0
    answered_at: float | None = None

    def transferred(self, response: Any) -> None:
        """Records the size of the bodies of an ``httpx.Response`` and its request."""
        self.bytes_sent, self.bytes_received = len(response.request.content), response.num_bytes_downloaded


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Sums over the requests of an encoder; see ``SentRequest``.

    Attributes:
        latencies: seconds of each request that gave vectors, from sending to the last byte, in order of their end.
        sent_at: of each request.
        answered_at: of each request that gave vectors, in order.
        first_vector_s: from the first request to the first vectors; None before.
    """

    requests: int
    tokens: int
    throttled: int
    retries: int
    bytes_sent: int
    bytes_received: int
    latencies: tuple[float, ...]
    sent_at: tuple[float, ...]
    answered_at: tuple[float, ...]
    first_vector_s: float | None

    @classmethod
    def of(cls, sent: Sequence[SentRequest]) -> Usage:
        """Sums up requests in the order of sending."""
        ends = sorted((one.answered_at, one.sent_at) for one in sent if one.answered_at is not None)
        return cls(
            requests=len(sent),
            retries=sum(one.is_retry for one in sent),
            **{name: sum(getattr(one, name) for one in sent) for name in _SUMMED},
            latencies=tuple(answered - sent_at for answered, sent_at in ends),
            sent_at=tuple(one.sent_at for one in sent),
            answered_at=tuple(answered for answered, _ in ends),
            first_vector_s=ends[0][0] - sent[0].sent_at if ends else None,
        )
