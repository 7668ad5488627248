"""A comparison that its budget ends: the limit, the money spent, and the needs of the whole comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vecfill.bench.api.amounts import usd
from vecfill.encode.api.budget import Limits, RequestBudget
from vecfill.errors import BudgetError
from vecfill.wording import count_of


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a whole comparison needs of the API.

    Attributes:
        requests: at least; retries, and blocks that do not fill their last request, come on top.
        tokens: of all rounds, queries and the retrieval set.
        exact: counted by the API's own tokenizer; else an estimate.
    """

    requests: int
    tokens: int
    exact: bool

    def describe(self, cost: float | None) -> str:
        """In words, with the cost where it is known."""
        kind = "" if self.exact else "about "
        return f"at least {count_of(self.requests, 'request')} and {kind}{count_of(self.tokens, 'token')}{_money(cost)}"


@contextmanager
def within(ledger: RequestBudget, needs: Needs) -> Iterator[None]:
    """A block that sends API requests; where the budget ended them, that error replaces any other.

    Raises:
        BudgetError: ``--max-requests`` or ``--max-cost`` was reached.
    """
    try:
        yield
    finally:
        spent = ledger.account()
        if spent.spent is not None:
            used = f"{count_of(spent.requests, 'request')} and {count_of(spent.tokens, 'token')}"
            raise BudgetError(
                f"{spent.spent}: {used}{_money(spent.cost_usd)} were spent; "
                f"{_remedy(needs, ledger.limits.cost(needs.tokens))}"
            ) from None


def check_reach(limits: Limits, needs: Needs) -> None:
    """Finds a budget that is surely too small before anything is sent and paid.

    Raises:
        BudgetError: it is too small.
    """
    cost = limits.cost(needs.tokens)
    if limits.max_requests is not None and needs.requests > limits.max_requests:
        bound = f"--max-requests {limits.max_requests}"
    elif needs.exact and limits.max_cost is not None and cost is not None and cost > limits.max_cost:
        bound = f"--max-cost {limits.max_cost:g}"
    else:
        return
    raise BudgetError(f"{bound} does not reach, and nothing was sent: {_remedy(needs, cost)}")


def _remedy(needs: Needs, cost: float | None) -> str:
    return f"the whole comparison takes {needs.describe(cost)}: raise it, or take fewer --rows or --rounds"


def _money(cost: float | None) -> str:
    return "" if cost is None else f" ({usd(cost)})"
