"""A comparison that its budget ends: which bound, what was spent, and what the whole would have taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vecfill.bench.api.amounts import usd
from vecfill.encode.api.budget import Limits, RequestBudget
from vecfill.errors import BudgetError


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a whole comparison takes of the API.

    Attributes:
        requests: at least; what is tried again, and blocks that do not fill their last request, come on top.
        tokens: of all rounds, queries and the retrieval set.
        exact: counted by the API's own tokenizer; else an estimate.
    """

    requests: int
    tokens: int
    exact: bool

    def told(self, cost: float | None) -> str:
        """In words, with the cost where it is known."""
        kind = "" if self.exact else "about "
        return f"at least {self.requests:,} requests and {kind}{self.tokens:,} tokens{_money(cost)}"


@contextmanager
def within(ledger: RequestBudget, needs: Needs) -> Iterator[None]:
    """Lets the API be asked, and says so where the budget ended that, whatever else came of it.

    Raises:
        BudgetError: ``--max-requests`` or ``--max-cost`` was reached.
    """
    try:
        yield
    finally:
        _check(ledger, needs)


def check_reach(limits: Limits, needs: Needs) -> None:
    """Finds a budget that is surely too small before a byte is sent, and the money for nothing.

    Raises:
        BudgetError: it is.
    """
    cost = limits.cost(needs.tokens)
    if limits.max_requests is not None and needs.requests > limits.max_requests:
        bound = f"--max-requests {limits.max_requests}"
    elif needs.exact and limits.max_cost is not None and cost is not None and cost > limits.max_cost:
        bound = f"--max-cost {limits.max_cost:g}"
    else:
        return
    raise BudgetError(f"{bound} does not reach, and nothing was sent: {_remedy(needs, cost)}")


def _check(ledger: RequestBudget, needs: Needs) -> None:
    spent = ledger.account()
    if spent.spent is None:
        return
    raise BudgetError(
        f"{spent.spent}: {spent.requests:,} requests and {spent.tokens:,} tokens{_money(spent.cost_usd)} were spent; "
        f"{_remedy(needs, ledger.limits.cost(needs.tokens))}"
    ) from None


def _remedy(needs: Needs, cost: float | None) -> str:
    return f"the whole comparison takes {needs.told(cost)}: raise it, or take fewer --rows or --rounds"


def _money(cost: float | None) -> str:
    return "" if cost is None else f" ({usd(cost)})"
