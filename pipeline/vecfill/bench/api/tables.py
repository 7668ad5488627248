"""The report in tables and lists, line by line: the same on the page, in Markdown and on a terminal."""

from __future__ import annotations

from typing import Any

from vecfill.bench.api.amounts import count, interval, megabytes, number, percent, plain, rows_told, seconds, usd
from vecfill.bench.api.sides import API, SIDES
from vecfill.bench.api.words import Report

Line = tuple[str, ...]

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


def measured_lines(report: Report) -> list[Line]:
    """The measured table: what, local, API."""
    local, api = (report["measured"]["sides"][side] for side in SIDES)
    return [
        ("rows/s, database to database", *_both(local, api, lambda one: number(one["rows_per_s"]))),
        ("slowest to fastest round", *_both(local, api, _spread)),
        ("tokens/s, as each side counts", *_both(local, api, lambda one: number(one["tokens_per_s"]))),
        ("first rows are in the table after", *_both(local, api, _first)),
        ("start-up: process and model, or client", *_both(local, api, lambda one: seconds(one["startup_s"]))),
        ("single query, median", *_both(local, api, lambda one: seconds(one["query_s"]["p50"]))),
        ("single query, 95% and 99% under", *_both(local, api, lambda one: _two(one["query_s"]))),
        ("texts cut at the model's length", *_both(local, api, lambda one: count(one["truncated"]))),
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
        ("rows/s, from the first request to the last answer", number(told["rows_per_s"])),
        ("requests", count(told["requests"])),
        ("answered in, median", seconds(latency["p50"])),
        ("95% and 99% under", _two(latency)),
        ("refused for now (429)", count(told["throttled"])),
        ("retries", count(told["retries"])),
        ("sent, received", f"{megabytes(told['bytes_sent'])}, {megabytes(told['bytes_received'])}"),
        ("tokens, as the API counts", count(told["tokens"])),
        ("first vector, from the first request", seconds(told["first_vector_s"])),
    ]


def quality_lines(report: Report) -> list[Line]:
    """The quality table: what, local, API, by chance."""
    found, asked = report["measured"]["quality"], report["measured"]["retrieval"]
    k, lines = found["k"], []
    if (label := found["label"]) and label["asked"]:
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
            one["dated"] + (" (over 90 days)" if one["stale"] else ""),
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
    return [(words, "–" if given[name] is None else plain(given[name])) for name, words in FIELDS.items()]


def source_lines(report: Report) -> list[str]:
    """Where every price is from, and of when: the API's that is reckoned with first."""
    told = report["modelled"]
    prices = [*([told["price"]] if told["price"] else []), *told["apis"]]
    lines = [f"{one['label']}, {one['dated']}: {one['source']}" for one in prices]
    lines.append(f"machine {told['machine']['name']}, {told['machine']['dated']}: {told['machine']['source']}")
    if told["power"]:
        lines.append(f"power, {told['power']['dated']}: {told['power']['source']}")
    return list(dict.fromkeys(lines))


def swing_lines(report: Report) -> list[str]:
    """How far the break-even moves."""
    return [
        f"{FIELDS[one['name']]}: at {plain(one['low'])} local is cheaper {_from(one['at_low'])}, at "
        f"{plain(one['high'])} {_from(one['at_high'])} (assumed: {plain(one['value'])})"
        for one in report["modelled"]["sensitivity"]
    ]


def _from(rows: float | None) -> str:
    return "at no size" if rows is None else "at any size" if rows == 0 else f"from {rows_told(rows)} rows on"


def end_told(rows: float | None) -> str:
    """A break-even at the end of a bar."""
    return "never" if rows is None else "always" if rows == 0 else rows_told(rows)
