"""The budget of a run: reserves what a request may cost at most before it is sent, and books what it did cost.

Pure. All methods run in one event loop, the encoder's own or that of the Ray actor that all encoders share, so none
interrupts another.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

MILLION = 1_000_000


class Decision(enum.Enum):
    """What the budget decides about a request; see ``RequestBudget.reserve``."""

    GRANTED = "granted"
    WAIT = "wait"
    SPLIT = "split"
    SPENT = "spent"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on requests and on USD at a price per million tokens. None: no limit, or an unknown price."""

    max_requests: int | None = None
    max_cost: float | None = None
    price: float | None = None

    def cost(self, tokens: float) -> float | None:
        """Returns the USD for a number of tokens; None if the price is unknown."""
        return None if self.price is None else tokens * self.price / MILLION


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a run has spent on an API.

    Attributes:
        requests: requests sent, retries included.
        tokens: tokens that the API counted; where it does not say, the most that the request can have had.
        cost_usd: cost of the tokens, None if the price is unknown.
        spent: the limit that ended the run, None if none did.
    """

    requests: int
    tokens: int
    cost_usd: float | None
    spent: str | None


class Budget(Protocol):
    """A budget in this process or another; see ``RequestBudget``."""

    async def reserve(self, tokens: int, can_split: bool) -> Decision:
        """Reserves the tokens of a request that is about to be sent."""

    async def settle(self, reserved: int, used: int) -> None:
        """Books what the request has used."""


class RequestBudget:
    """Keeps the account of a run and enforces its limits. Travels by pickle, with its account."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self._requests = self._used = 0
        self._reserved = Counter[str]()
        self._spent: str | None = None

    async def reserve(self, tokens: int, can_split: bool, *, worker: str = "") -> Decision:
        """Reserves the most tokens that a request can have, and counts the request.

        Args:
            tokens: of the request at most.
            can_split: the request has several texts, and the caller can send a part of them instead.
            worker: who sends it.

        Returns:
            ``GRANTED``; ``WAIT`` while pending requests may turn out cheaper; ``SPLIT`` if only a smaller request fits;
            ``SPENT`` if nothing more may be sent. ``SPENT`` is final: later smaller texts would leave gaps.
        """
        if self._spent is None and self._exceeds(self._used + tokens) and can_split and not self._all_sent():
            return Decision.SPLIT
        self._spent = self._spent or self._reached(tokens)
        if self._spent:
            return Decision.SPENT
        if self._exceeds(self._used + self._reserved.total() + tokens):
            return Decision.WAIT
        self._requests += 1
        self._reserved[worker] += tokens
        return Decision.GRANTED

    async def settle(self, reserved: int, used: int, *, worker: str = "") -> None:
        """Releases what was reserved for a request of a worker and books the tokens that it has used."""
        self._reserved[worker] -= reserved
        self._used += used

    def restarted(self, worker: str) -> None:
        """Releases what a worker that died held; its requests without an answer count as paid."""
        self._used += self._reserved.pop(worker, 0)

    def account(self) -> Account:
        """Returns what has been spent so far."""
        return Account(
            requests=self._requests, tokens=self._used, cost_usd=self.limits.cost(self._used), spent=self._spent
        )

    def _reached(self, tokens: int) -> str | None:
        limits = self.limits
        if self._all_sent():
            return f"--max-requests {limits.max_requests} is reached"
        if self._exceeds(self._used + tokens):
            return f"--max-cost {limits.max_cost:g} could be exceeded by the next text"
        return None

    def _all_sent(self) -> bool:
        return self.limits.max_requests is not None and self._requests >= self.limits.max_requests

    def _exceeds(self, tokens: int) -> bool:
        cost = self.limits.cost(tokens)
        return self.limits.max_cost is not None and cost is not None and cost > self.limits.max_cost
