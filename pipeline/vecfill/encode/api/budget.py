"""The budget of a run: what a request may cost at most is put aside before it is sent, and settled by its answer.

Pure. Its methods run in one event loop, the encoder's own or that of the Ray actor that all encoders share, so none is
interrupted by another.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

MILLION = 1_000_000


class Verdict(enum.Enum):
    """What becomes of a request."""

    GRANTED = "granted"
    WAIT = "wait"
    SPLIT = "split"
    SPENT = "spent"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is never passed: requests, and USD at a price a million tokens. None: no bound, or a price not known."""

    max_requests: int | None = None
    max_cost: float | None = None
    price: float | None = None

    def cost(self, tokens: float) -> float | None:
        """USD for so many tokens; None where the price is not known."""
        return None if self.price is None else tokens * self.price / MILLION


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a run has spent.

    Attributes:
        requests: sent, those that were to be tried again included.
        tokens: that the API counted; where it did not say, the most that they can have been.
        cost_usd: of these, None where the price is not known.
        spent: the bound that ended the run, None where it did not come to that.
    """

    requests: int
    tokens: int
    cost_usd: float | None
    spent: str | None


class Budget(Protocol):
    """A ledger, here or in another process."""

    async def reserve(self, tokens: int, splits: bool) -> Verdict:
        """See ``RequestBudget``."""

    async def settle(self, held: int, used: int) -> None:
        """See ``RequestBudget``."""


class RequestBudget:
    """Keeps the account of a run and to its limits. Travels by pickle, with what was spent so far."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self._requests = self._used = self._held = 0
        self._spent: str | None = None

    async def reserve(self, tokens: int, splits: bool) -> Verdict:
        """Puts a request's tokens aside, the most that it can have.

        Args:
            tokens: of the request at most.
            splits: it has several texts, and a part of them can be asked for instead.

        Returns:
            ``WAIT`` where others that are under way may yet turn out cheaper; ``SPLIT`` where only a smaller request
            fits what is left; ``SPENT`` where nothing more may be sent: then also never again, so that no smaller text
            slips through and leaves gaps.
        """
        if self._spent is None and self._too_dear(self._used + tokens) and splits and not self._all_sent():
            return Verdict.SPLIT
        self._spent = self._spent or self._passed(tokens)
        if self._spent:
            return Verdict.SPENT
        if self._too_dear(self._used + self._held + tokens):
            return Verdict.WAIT
        self._requests += 1
        self._held += tokens
        return Verdict.GRANTED

    async def settle(self, held: int, used: int) -> None:
        """Takes back what was put aside and books what the request has used."""
        self._held -= held
        self._used += used

    def account(self) -> Account:
        """What has been spent so far."""
        return Account(
            requests=self._requests, tokens=self._used, cost_usd=self.limits.cost(self._used), spent=self._spent
        )

    def _passed(self, tokens: int) -> str | None:
        limits = self.limits
        if self._all_sent():
            return f"--max-requests {limits.max_requests} is reached"
        if self._too_dear(self._used + tokens):
            return f"--max-cost {limits.max_cost:g} could be passed by the next text"
        return None

    def _all_sent(self) -> bool:
        return self.limits.max_requests is not None and self._requests >= self.limits.max_requests

    def _too_dear(self, tokens: int) -> bool:
        cost = self.limits.cost(tokens)
        return self.limits.max_cost is not None and cost is not None and cost > self.limits.max_cost
