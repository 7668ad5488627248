"""The report as it is read: in a real browser, as Markdown, and where nothing is known about prices."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.api.browser import browser
from tests.bench.api.conftest import ROUNDS, ROWS

from vecfill.bench.api import amounts, plots_measured, plots_modelled, tables, words
from vecfill.bench.api.markdown import markdown
from vecfill.bench.api.modelled import modelled
from vecfill.bench.api.page import page
from vecfill.bench.api.plan import Money, Plan, Tokens
from vecfill.bench.api.rows import from_listings
from vecfill.config.api import ApiOptions
from vecfill.config.model import Model
from vecfill.encode.api import prices

MEASURED = ["throughput", "latency", "quality"]
MODELLED = ["cost", "time", "growth", "sensitivity"]

FIGURES = """JSON.stringify([...document.querySelectorAll('figure')].map(figure => {
  const drawing = figure.querySelector('svg'), box = drawing.getBoundingClientRect();
  return {id: figure.id, width: box.width, height: box.height, alt: drawing.getAttribute('aria-label'),
    modelled: !!figure.closest('.modelled'),
    shapes: drawing.querySelectorAll('path').length,
    dashed: /stroke-dasharray|url\\(#h/.test(drawing.innerHTML),
    caption: figure.querySelector('figcaption').textContent};
}))"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(compared, width):
    with browser() as window:
        window.open(compared.folder / "api.html", width)
        assert window.evaluate("document.documentElement.scrollWidth") <= width
        figures = json.loads(window.evaluate(FIGURES))
        shown = window.evaluate("document.body.innerText")
        assert window.complaints == []
        assert [url for url in window.asked if not url.startswith(("file:", "data:"))] == []
    assert [one["id"] for one in figures] == MEASURED + MODELLED
    for one in figures:
        assert one["width"] > width / 4
        assert one["height"] > 100
        assert one["shapes"] > 5
        assert one["alt"]
        assert one["modelled"] == (one["id"] in MODELLED)
        assert one["dashed"] or not one["modelled"]
        assert "Source: " in one["caption"]
        assert "vecfill bench api" in one["caption"]
        assert one["caption"].startswith("Modelled" if one["modelled"] else f"Measured, {ROUNDS} rounds")
    for sentence in words.verdict(compared.report):
        assert sentence in shown


@pytest.mark.slow
def test_the_page_needs_nothing_but_itself(compared):
    text = (compared.folder / "api.html").read_text()
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!\#|data:)[^"']*|url\((?!\#)[^)]*|@import[^;]*|<script""", text)
    assert outside == []


@pytest.mark.slow
def test_markdown_and_json_tell_the_same(compared):
    assert json.loads((compared.folder / "api.json").read_text()) == compared.report
    text = (compared.folder / "api.md").read_text()
    shown = html.unescape((compared.folder / "api.html").read_text())
    for line in tables.source_lines(compared.report):
        assert f"- {line}" in text
        assert line in shown
    for line in (*tables.measured_lines(compared.report), *tables.assumption_lines(compared.report)):
        assert f"| {' | '.join(line)} |" in text
        assert all(cell in shown for cell in line)
    assert text.index("## Measured") < text.index("## Modelled") < text.index("## How it was done")


def plan_with(price, **changes) -> Plan:
    table = prices.load()
    money = Money(prices=table, price=price, borrowed=False, machine=table.machine_named("desktop"))
    model = Model(name="openai:test", api=ApiOptions(base_url="http://127.0.0.1/v1"))
    plan = Plan(rows=from_listings(ROWS), local=Model(name="hash:8"), api=model, rounds=ROUNDS, money=money)
    return replace(plan, money=replace(money, **changes)) if changes else plan


@pytest.mark.slow
@pytest.mark.parametrize("known", ["nothing", "free"])
def test_a_report_without_prices_says_so(compared, known):
    given_ = prices.load().named("mistral-embed")
    price = None if known == "nothing" else given_.model_copy(update={"usd_per_million_tokens": 0.0})
    tokens = Tokens(total=9_000, distinct=9_000, exact=False, tokenizer="x")
    report = compared.report | {"modelled": modelled(plan_with(price), compared.report["measured"], tokens)}
    drawn = [*plots_measured.plots(report), *plots_modelled.plots(report)]
    assert [plot.name for plot in drawn] == [*MEASURED, *(["cost"] if known == "free" else [])]
    for text in (html.unescape(page(report, drawn)), markdown(report)):
        assert "no cost is told" in text if known == "nothing" else "is zero: it counts as free" in text
        assert "tokens are an estimate" in text.lower()
    assert (report["modelled"]["cheaper"] is None) == (known != "free")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ratio", "says"),
    [
        ((0.9, 0.95, 1.2), "neither side was the faster in all rounds (measured)"),
        ((1.02, 1.04, 1.06), "the local model was 1.04 times as fast (measured)"),
        ((0.4, 0.5, 0.6), "the API was 2.0 times as fast (measured)"),
    ],
)
def test_the_verdict_says_no_more_than_was_measured(compared, ratio, says):
    least, median, greatest = ratio
    found = {"median": median, "least": least, "greatest": greatest}
    report = compared.report | {"measured": compared.report["measured"] | {"ratio": found}}
    first = words.verdict(report)[0]
    assert says in first
    assert first.endswith("(modelled).")


@given(rows=st.floats(1, 1e14), more=st.floats(1, 100))
def test_more_rows_never_read_as_fewer(rows, more):
    def value(text: str) -> float:
        units = {"million": 1e6, "billion": 1e9, "trillion": 1e12}
        count, _, unit = text.replace(",", "").partition(" ")
        return float(count) * units.get(unit, 1.0)

    low, high = (amounts.rows_told(one) for one in (rows, rows * more))
    assert value(low) <= value(high)
    assert value(low) == pytest.approx(rows, rel=0.06) or rows < 10


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "–"), (0.0, "$0"), (0.00048, "$0.00048"), (0.3, "$0.30"), (1.5, "$1.50"), (1234.5, "$1,234")],
)
def test_money_is_told_to_the_digits_that_matter(value, told):
    assert amounts.usd(value) == told
