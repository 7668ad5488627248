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

from vecfill.bench.api import amounts, tables
from vecfill.bench.api.drawings import drawings
from vecfill.bench.api.modelled import modelled
from vecfill.bench.api.output import markdown, page, print_report, sentences
from vecfill.bench.api.plan import Money, Plan, Tokens
from vecfill.bench.corpus import labelled_listings
from vecfill.config.api import ApiOptions
from vecfill.config.model import Model
from vecfill.encode.api import prices

MEASURED = ["throughput"]
MODELLED = ["cost", "time"]

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
    for sentence in sentences("verdict", compared.report):
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
    assert text.index("## Measured") < text.index("## Modelled") < text.index("## Method")


def plan_with(price, **changes) -> Plan:
    table = prices.load()
    money = Money(prices=table, price=price, borrowed=False, machine=table.machine_named("desktop"))
    model = Model(name="openai:test", api=ApiOptions(base_url="http://127.0.0.1/v1"))
    plan = Plan(corpus=labelled_listings(ROWS), local=Model(name="hash:8"), api=model, rounds=ROUNDS, money=money)
    return replace(plan, money=replace(money, **changes)) if changes else plan


@pytest.mark.slow
@pytest.mark.parametrize("known", ["nothing", "free"])
def test_a_report_without_prices_says_so(compared, known):
    given_ = prices.load().named("mistral-embed")
    price = None if known == "nothing" else given_.model_copy(update={"usd_per_million_tokens": 0.0})
    tokens = Tokens(total=9_000, distinct=9_000, exact=False, tokenizer="x")
    report = compared.report | {"modelled": modelled(plan_with(price), compared.report["measured"], tokens)}
    drawn = drawings(report)
    assert [plot.name for plot in drawn] == [*MEASURED, *(["cost"] if known == "free" else [])]
    for text in (html.unescape(page(report, drawn)), markdown(report)):
        assert "the cost is unknown" in text if known == "nothing" else "is zero: it counts as free" in text
        assert "tokens are an estimate" in text.lower()
    assert (report["modelled"]["cheaper"] is None) == (known != "free")


@pytest.mark.slow
def test_the_terminal_shows_the_same_lines(compared, capsys):
    print_report(compared.report)
    out = capsys.readouterr().out
    for part in ("setting", "verdict", "quality"):
        assert all(line in out for line in sentences(part, compared.report))
    for line in tables.measured_lines(compared.report):
        assert all(cell in out for cell in line)
    assert all(line[3] in out for line in tables.price_lines(compared.report))
    assert all(line in out for line in compared.report["modelled"]["remarks"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ratio", "says"),
    [
        ((0.9, 0.95, 1.2), "neither side was faster in all rounds (measured)"),
        ((1.02, 1.04, 1.06), "the local model was 1.04 times as fast (measured)"),
        ((0.4, 0.5, 0.6), "the API was 2.0 times as fast (measured)"),
    ],
)
def test_the_verdict_says_no_more_than_was_measured(compared, ratio, says):
    least, median, greatest = ratio
    found = {"median": median, "least": least, "greatest": greatest}
    report = compared.report | {"measured": compared.report["measured"] | {"ratio": found}}
    first = sentences("verdict", report)[0]
    assert says in first
    assert first.endswith("(modelled).")


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "warned"), [(0.9, True), (1.1, False)])
def test_rounds_that_are_too_short_are_said(compared, seconds, warned):
    sides = {name: {**side, "seconds": [seconds, 3.0]} for name, side in compared.report["measured"]["sides"].items()}
    report = compared.report | {"measured": compared.report["measured"] | {"sides": sides}}
    said = "so that a pause counts much: take more --rows" in " ".join(sentences("verdict", report))
    assert said == warned


@given(rows=st.floats(1, 1e14), more=st.floats(1, 100))
def test_more_rows_never_read_as_fewer(rows, more):
    def value(text: str) -> float:
        units = {"million": 1e6, "billion": 1e9, "trillion": 1e12}
        count, _, unit = text.replace(",", "").partition(" ")
        return float(count) * units.get(unit, 1.0)

    low, high = (amounts.rows_short(one) for one in (rows, rows * more))
    assert value(low) <= value(high)
    assert value(low) == pytest.approx(rows, rel=0.06) or rows < 10


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.0, "$0"), (0.00048, "$0.00048"), (0.3, "$0.30"), (1.5, "$1.50"), (1234.5, "$1,234")],
)
def test_money_has_the_digits_that_matter(value, shown):
    assert amounts.usd(value) == shown
