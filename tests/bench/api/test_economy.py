"""The model's properties: lines meet where it says, more is never less, and nothing is divided by zero."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfill.bench.api import economy
from vecfill.bench.api.economy import Assumptions, Line

AMOUNT = st.one_of(st.just(0.0), st.floats(1e-3, 1e6))
POSITIVE = st.floats(1e-2, 1e6)


@st.composite
def assumptions(draw, rate=AMOUNT):
    maybe = st.one_of(st.none(), AMOUNT)
    return Assumptions(
        tokens_per_row=draw(AMOUNT),
        local_tokens_per_s=draw(rate),
        api_rows_per_s=draw(maybe),
        local_start_s=draw(AMOUNT),
        api_start_s=draw(AMOUNT),
        usd_per_million_tokens=draw(AMOUNT),
        batch_usd_per_million_tokens=draw(maybe),
        tpm=draw(maybe),
        rpm=draw(maybe),
        rows_per_request=draw(AMOUNT),
        machine_usd_per_hour=draw(AMOUNT),
        setup_usd=draw(AMOUNT),
        standing_usd_per_month=draw(AMOUNT),
        growth_rows_per_month=draw(AMOUNT),
        months=draw(AMOUNT),
        runs_per_month=draw(AMOUNT),
    )


def cheaper_from(given_: Assumptions) -> float:
    """Rows from which on the local side is cheaper: 0 where it always is, infinity where it never is."""
    found = economy.cheaper(given_)
    return math.inf if found is None or found.above != "local" else found.at or 0.0


LINES = st.builds(Line, start=AMOUNT, per_row=AMOUNT)


@given(local=LINES, api=LINES)
def test_lines_are_equal_where_they_cross_and_apart_elsewhere(local, api):
    found = economy.crossing(local, api)
    if found.at is None:
        assert found.below == found.above
        checked = [0.0, 1.0, 1e9]
        for rows in checked:
            gap = api.at(rows) - local.at(rows)
            assert {"local": gap >= 0, "api": gap <= 0, "neither": gap == 0}[found.above]
        return
    assert found.at > 0
    assert {found.below, found.above} == {"local", "api"}
    assert local.at(found.at) == pytest.approx(api.at(found.at), rel=1e-6)
    for rows, winner in ((found.at / 2, found.below), (found.at * 2, found.above)):
        gap = api.at(rows) - local.at(rows)
        assert gap >= 0 if winner == "local" else gap <= 0


@given(local=LINES, api=LINES)
def test_a_crossing_is_the_same_from_the_other_side(local, api):
    one, other = economy.crossing(local, api), economy.crossing(api, local)
    turned = {"local": "api", "api": "local", "neither": "neither"}
    assert (one.at, one.below, one.above) == (other.at, turned[other.below], turned[other.above])


@pytest.mark.parametrize(
    ("local", "api", "wins"),
    [
        (Line(start=0, per_row=0), Line(start=0, per_row=0), "neither"),
        (Line(start=1, per_row=2), Line(start=1, per_row=2), "neither"),
        (Line(start=0, per_row=1), Line(start=0, per_row=2), "local"),
        (Line(start=2, per_row=1), Line(start=1, per_row=1), "api"),
        (Line(start=1, per_row=1), Line(start=2, per_row=2), "local"),
    ],
)
def test_lines_that_do_not_cross(local, api, wins):
    assert economy.crossing(local, api) == economy.Crossing(below=wins, above=wins, at=None)


@given(given_=assumptions())
def test_zeros_and_gaps_divide_nothing(given_):
    economy.cheaper(given_)
    economy.cheaper(given_, batch=True)
    economy.faster(given_)
    rate = economy.api_rate(given_)
    assert rate is None or rate > 0


@given(given_=assumptions(POSITIVE), rows=st.floats(0, 1e9), more=st.floats(1.001, 100))
def test_more_rows_never_cost_less_nor_take_less_time(given_, rows, more):
    for line in (
        economy.local_cost(given_),
        economy.api_cost(given_),
        economy.local_time(given_),
        economy.api_time(given_),
    ):
        assert line is None or line.at(rows * more) >= line.at(rows)


@given(given_=assumptions(POSITIVE), factor=st.floats(1, 10))
def test_a_dearer_api_never_raises_the_break_even_and_dearer_work_never_lowers_it(given_, factor):
    base = cheaper_from(given_)
    dearer = replace(given_, usd_per_million_tokens=given_.usd_per_million_tokens * factor)
    assert cheaper_from(dearer) <= base * (1 + 1e-9)
    work = replace(given_, setup_usd=given_.setup_usd * factor + (factor - 1))
    assert cheaper_from(work) >= base * (1 - 1e-9)


@st.composite
def contested(draw):
    """Work to set the local side up, after which a row costs less there: a break-even there must be."""
    found = replace(
        draw(assumptions(POSITIVE)), tokens_per_row=draw(st.floats(1, 1_000)), months=draw(st.floats(1, 36))
    )
    cost = economy.machine_usd_per_row(found) * draw(st.floats(1.1, 100)) + 1e-9
    setup = found.setup_usd + draw(st.floats(1, 1e6)) + cost * found.growth_rows_per_month * found.months
    return replace(found, usd_per_million_tokens=cost * 1e6 / found.tokens_per_row, setup_usd=setup)


@given(given_=contested())
def test_costs_are_equal_at_the_break_even(given_):
    found = economy.cheaper(given_)
    assert (found.below, found.above) == ("api", "local")
    local, api = economy.local_cost(given_), economy.api_cost(given_)
    assert local.at(found.at) == pytest.approx(api.at(found.at), rel=1e-6)


@given(given_=assumptions(POSITIVE), tpm=POSITIVE)
def test_a_limit_bounds_the_rate(given_, tpm):
    capped = economy.api_rate(replace(given_, tpm=tpm))
    if given_.tokens_per_row:
        assert capped <= tpm / 60 / given_.tokens_per_row * (1 + 1e-12)
    assert capped is None or given_.api_rows_per_s in (None, 0.0) or capped <= given_.api_rows_per_s


def test_an_example_by_hand():
    given_ = Assumptions(
        tokens_per_row=50,
        local_tokens_per_s=5_000,
        usd_per_million_tokens=0.02,
        batch_usd_per_million_tokens=0.01,
        machine_usd_per_hour=0.036,
        setup_usd=90,
        tpm=600_000,
        months=12,
    )
    # a row: API 50 × 0.02 / 10^6 = 1e-6 USD, local 0.036 / 3600 / 100 = 1e-7 USD; 90 / 9e-7 = 10^8 rows
    assert economy.cheaper(given_) == economy.Crossing(below="api", above="local", at=pytest.approx(1e8))
    assert economy.cheaper(given_, batch=True).at == pytest.approx(90 / 4e-7)
    assert economy.api_rate(given_) == pytest.approx(200)  # 600,000 / 60 / 50
    assert economy.faster(replace(given_, local_start_s=0)).above == "api"
    assert cheaper_from(replace(given_, usd_per_million_tokens=0.0)) == math.inf


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_what_is_no_amount_is_refused(value):
    with pytest.raises(ValueError, match="setup_usd is"):
        Assumptions(tokens_per_row=1, local_tokens_per_s=1, setup_usd=value)
