"""The report's tables and lists, line by line: the same on the page, in Markdown and on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vecfill.bench.api.amounts import interval, megabytes, number, percent, plain, rows_short, seconds, usd
from vecfill.bench.api.sides import API, SIDES

Report = dict[str, Any]
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

SIDES_HEAD = ("", "local", "API")
REQUEST_HEAD = ("", "API")
QUALITY_HEAD = (*SIDES_HEAD, "random baseline")
TIER_HEAD = ("tier", "tokens a minute", "most rows/s", "local is faster from")
ASSUMPTION_HEAD = ("", "value")
PRICE_HEAD = (
    *("API", "$ a million tokens", "batch", "$ a million of these rows", "most rows/s, lowest tier"),
    *("local is cheaper from", "price of"),
)

_MEASURED: dict[str, Callable[[Report], str]] = {
    "rows/s, database to database": lambda one: number(one["rows_per_s"]),
    "slowest to fastest round": lambda one: f"{number(min(one['rounds']))} to {number(max(one['rounds']))}",
    "tokens/s, as each side counts": lambda one: number(one["tokens_per_s"]),
    "first rows are in the table after": lambda one: f"{seconds(one['first_rows_s'])} ({one['first_rows']:,} rows)",
    "start-up: process and model, or client": lambda one: seconds(one["startup_s"]),
    "single query, median": lambda one: seconds(one["query_s"]["p50"]),
    "single query, p95 and p99": lambda one: _tail(one["query_s"]),
    "texts cut at the model's length": lambda one: _count(one["truncated"]),
    "dimensions": lambda one: f"{one['dim']:,}",
    "peak memory of its process": lambda one: megabytes(one["peak_bytes"]),
}

_REQUESTS: dict[str, Callable[[Report], str]] = {
    "rows/s, from the first request to the last answer": lambda one: number(one["rows_per_s"]),
    "requests": lambda one: _count(one["requests"]),
    "latency, median": lambda one: seconds(one["latency_s"]["p50"]),
    "latency, p95 and p99": lambda one: _tail(one["latency_s"]),
    "rate-limited (429)": lambda one: _count(one["throttled"]),
    "retries": lambda one: _count(one["retries"]),
    "sent, received": lambda one: f"{megabytes(one['bytes_sent'])}, {megabytes(one['bytes_received'])}",
    "tokens, as the API counts": lambda one: _count(one["tokens"]),
    "first vector, from the first request": lambda one: seconds(one["first_vector_s"]),
}


def measured_lines(report: Report) -> list[Line]:
    """The measured table, by ``SIDES_HEAD``."""
    sides = report["measured"]["sides"]
    return [(name, *(shown(sides[side]) for side in SIDES)) for name, shown in _MEASURED.items()]


def request_lines(report: Report) -> list[Line]:
    """The API's requests in a round, by ``REQUEST_HEAD``."""
    found = report["measured"]["sides"][API]["requests"]
    return [(name, shown(found)) for name, shown in _REQUESTS.items()] if found else []


def _tail(percentiles: dict[str, float]) -> str:
    return f"{seconds(percentiles['p95'])}, {seconds(percentiles['p99'])}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def quality_lines(report: Report) -> list[Line]:
    """The quality table, by ``QUALITY_HEAD``."""
    found, retrieval = report["measured"]["quality"], report["measured"]["retrieval"]
    label = found["label"]
    judged = [(f"same {label['column']}", label)] if label and label["asked"] else []
    judged += [("built-in retrieval set", retrieval)] if retrieval else []
    return [
        (
            f"{metric}@{found['k']}, {what}",
            *(interval(one[side][name]) for side in SIDES),
            percent(one["chance"]) if name == "precision" else "–",
        )
        for what, one in judged
        for name, metric in (("precision", "precision"), ("ndcg", "nDCG"))
    ]


def crossing_cell(found: dict[str, Any] | None) -> str:
    """A crossing in a table's cell."""
    if found is None or found["above"] == "neither":
        return "–"
    if found["at"] is None:
        return "any size" if found["above"] == "local" else "never"
    return f"{rows_short(found['at'])} rows" if found["above"] == "local" else f"below {rows_short(found['at'])} rows"


def tier_lines(report: Report) -> list[Line]:
    """The rate of each tier, and from where on the local side is faster, by ``TIER_HEAD``."""
    return [
        (one["name"], number(one["tpm"]), number(one["most_rows_per_s"]), crossing_cell(one["faster"]))
        for one in report["modelled"]["tiers"]
    ]


def price_lines(report: Report) -> list[Line]:
    """The known APIs, by ``PRICE_HEAD``."""
    return [
        (
            one["label"],
            usd(one["usd_per_million_tokens"]),
            usd(one["batch_usd_per_million_tokens"]),
            usd(one["per_million_rows"]),
            number(one["most_rows_per_s"], 2),
            crossing_cell(one["cheaper"]),
            one["dated"] + (" (over 90 days)" if one["stale"] else ""),
        )
        for one in report["modelled"]["apis"]
    ]


def assumption_lines(report: Report) -> list[Line]:
    """Every assumption with its value, by ``ASSUMPTION_HEAD``."""
    given = report["modelled"]["assumptions"]
    return [(words, "–" if given[name] is None else plain(given[name])) for name, words in FIELDS.items()]


def source_lines(report: Report) -> list[str]:
    """Source and date of every price; that of the API compared first."""
    found = report["modelled"]
    prices = [*([found["price"]] if found["price"] else []), *found["apis"]]
    named = [(one["label"], one) for one in prices] + [(f"machine {found['machine']['name']}", found["machine"])]
    named += [("power", found["power"])] if found["power"] else []
    return list(dict.fromkeys(f"{name}, {one['dated']}: {one['source']}" for name, one in named))
