"""The price table: what is shipped can be read, and what is missing, stale or zero is said."""

from __future__ import annotations

import math
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfill.encode.api import prices
from vecfill.encode.api.prices import STALE_DAYS, Price
from vecfill.errors import ConfigError

DATED = date(2026, 6, 1)


def price(**changes) -> Price:
    values = {
        "provider": "P",
        "host": "api.example.com",
        "model": "m",
        "usd_per_million_tokens": 0.02,
        "source": "https://example.com/pricing",
        "dated": DATED,
    }
    return Price(**(values | changes))


def table_of(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    return file


def test_what_is_shipped_names_its_sources():
    table = prices.load()
    assert {one.provider for one in table.api} >= {"OpenAI", "Voyage", "Cohere", "Mistral", "Google"}
    assert all(one.source and one.dated <= date(2100, 1, 1) for one in (*table.api, *table.machine))
    assert len({(one.host, one.model) for one in table.api}) == len(table.api)
    assert len({one.name for one in table.machine}) == len(table.machine)
    assert table.power is not None


def test_an_entry_holds_for_its_host_alone():
    table = prices.load()
    openai = table.find("text-embedding-3-small")
    assert openai is not None
    assert openai.provider == "OpenAI"
    assert table.find("text-embedding-3-small", "https://api.openai.com/v1") == openai
    assert table.find("text-embedding-3-small", "http://127.0.0.1:7997") is None
    assert table.find("voyage-4") is None
    assert table.find("voyage-4", "https://api.voyageai.com/v1") == table.named("voyage-4")


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(ConfigError, match=r"no model 'gpt'.*text-embedding-3-small"):
        prices.load().named("gpt")
    with pytest.raises(ConfigError, match=r"no machine 'abacus'.*cloud-h100"):
        prices.load().machine_named("abacus")


@given(age=st.integers(0, 4 * STALE_DAYS))
def test_an_old_price_is_said_to_be_old(age):
    said = price().remarks(DATED + timedelta(days=age))
    assert len(said) == (age > STALE_DAYS)
    assert all(f"{age} days old" in line and "example.com/pricing" in line for line in said)


def test_a_price_that_is_missing_or_zero_is_said_to_be():
    unknown, free = price(usd_per_million_tokens=None), price(usd_per_million_tokens=0.0)
    assert "not known" in unknown.remarks(DATED)[0]
    assert unknown.cost(1_000) is None
    assert "zero" in free.remarks(DATED)[0]
    assert free.cost(1_000) == 0.0
    assert unknown.batch_cost(1_000) is None


@given(tokens=st.integers(0, 10**15), usd=st.floats(0, 1_000))
def test_cost_is_by_the_million_tokens(tokens, usd):
    found = price(usd_per_million_tokens=usd, batch_usd_per_million_tokens=usd / 2)
    assert math.isclose(found.cost(tokens), usd * tokens / 1e6)
    assert math.isclose(found.batch_cost(tokens), found.cost(tokens) / 2, abs_tol=1e-300)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[api", "is not TOML"),
        ("[[api]]\nprovider = 'P'", "Field required"),
        ("[power]\nusd_per_kwh = -1\nsource = 's'\ndated = 2026-01-01", "greater than or equal to 0"),
        ("[power]\nusd_per_kwh = nan\nsource = 's'\ndated = 2026-01-01", "finite"),
        ("[extra]", "Extra inputs"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        prices.load(table_of(tmp_path, text))


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        prices.load(tmp_path / "none.toml")


def test_an_empty_table_knows_no_price(tmp_path):
    table = prices.load(table_of(tmp_path, ""))
    assert table.find("text-embedding-3-small") is None
    assert table.power is None
