"""The budget: whatever the order of requests and answers, it is never passed."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfill.config.api import ApiOptions
from vecfill.config.model import Model
from vecfill.encode.api.budget import Decision, Limits, RequestBudget
from vecfill.encode.api.terms import shared_budget

sizes = st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1), st.integers(0, 3)), max_size=60)


async def played(ledger: RequestBudget, requests) -> int:
    """Sends requests of a size that use a part of it, each settled after some others; returns what they used."""
    used, under_way = 0, []
    for size, part, delay in requests:
        decision = await ledger.reserve(size, False)
        if decision is Decision.GRANTED:
            under_way.append((size, int(size * part)))
            used += int(size * part)
        while len(under_way) > delay:
            await ledger.settle(*under_way.pop(0))
    for held, spent in under_way:
        await ledger.settle(held, spent)
    return used


@given(sizes, st.integers(0, 2_000), st.integers(1, 30))
def test_neither_limit_is_passed_and_the_account_is_true(requests, tokens, most):
    ledger = RequestBudget(Limits(max_requests=most, max_cost=float(tokens), price=1e6))
    used = asyncio.run(played(ledger, requests))
    account = ledger.account()
    assert account.tokens == used <= tokens
    assert account.requests <= most
    assert account.cost_usd == pytest.approx(used)


@given(sizes)
def test_without_limits_all_is_granted(requests):
    ledger = RequestBudget()
    asyncio.run(played(ledger, requests))
    assert ledger.account().requests == len(requests)
    assert (ledger.account().cost_usd, ledger.account().spent) == (None, None)


def decisions(limits: Limits, *steps):
    async def all_of_them():
        ledger = RequestBudget(limits)
        return [
            await (ledger.reserve(abs(step), step < 0) if isinstance(step, int) else ledger.settle(*step))
            for step in steps
        ], ledger.account().spent

    return asyncio.run(all_of_them())


def test_what_others_hold_is_waited_for():
    found, spent = decisions(Limits(max_cost=100, price=1e6), 60, 60, (60, 10), 60)
    assert found == [Decision.GRANTED, Decision.WAIT, None, Decision.GRANTED]
    assert spent is None


def test_once_refused_nothing_smaller_slips_through():
    found, spent = decisions(Limits(max_cost=100, price=1e6), 60, (60, 60), 60, 1)
    assert found[2:] == [Decision.SPENT, Decision.SPENT]
    assert spent == "--max-cost 100 could be exceeded by the next text"


def test_what_can_be_split_is_split_before_the_budget_counts_as_spent():
    """Negative: several texts."""
    found, spent = decisions(Limits(max_cost=100, price=1e6), -120, -60, (60, 60), -60, -30, (30, 30), 20, -1)
    granted = [Decision.GRANTED, None]
    assert found == [Decision.SPLIT, *granted, Decision.SPLIT, *granted, Decision.SPENT, Decision.SPENT]
    assert spent is not None


def test_requests_are_counted_not_those_that_are_done():
    found, spent = decisions(Limits(max_requests=2), 1, (1, 0), 1, 1)
    assert found[-1] is Decision.SPENT
    assert spent == "--max-requests 2 is reached"


def test_the_budget_that_encoders_share_travels_with_its_account():
    budget = shared_budget(Model(name="openai:test", api=ApiOptions(max_requests=2, price_per_million=1e6)))
    assert asyncio.run(budget.reserve(5, False)) is Decision.GRANTED
    asyncio.run(budget.settle(5, 3))
    again = pickle.loads(pickle.dumps(budget))
    assert again.account() == budget.account()
    assert (again.account().requests, again.account().cost_usd) == (1, 3.0)
    assert shared_budget(Model(name="hash:8")) is None


def test_what_is_free_costs_nothing_whatever_the_limit():
    found, _ = decisions(Limits(max_cost=0, price=0.0), 10**9)
    assert found == [Decision.GRANTED]


def test_a_worker_that_died_holds_no_budget_and_its_requests_count_as_paid():
    async def requests():
        budget = RequestBudget(Limits(max_cost=10.0, price=1e6))
        await budget.reserve(6, False, worker="one")
        await budget.reserve(3, False, worker="two")
        assert await budget.reserve(5, False, worker="two") is Decision.WAIT
        budget.restarted("one")
        assert await budget.reserve(5, False, worker="two") is Decision.SPENT
        await budget.settle(3, 2, worker="two")
        budget.restarted("two")  # holds nothing
        return budget.account()

    account = asyncio.run(requests())
    assert (account.requests, account.tokens) == (2, 8)
