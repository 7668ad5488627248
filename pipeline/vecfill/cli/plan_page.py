"""Prints a plan for people, on stdout."""

from __future__ import annotations

from collections.abc import Iterator

from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from vecfill.backfill.meter import duration
from vecfill.cli.report import coverage_table
from vecfill.planning.record import ApiCost, Rate, Resources, RunPlan, TextEstimate, TokenEstimate
from vecfill.wording import count_of

BAR_WIDTH = 40

REASONS = {
    "missing": "without a vector",
    "changed": "with a changed text",
    "other_model": "of another model",
    "unknown": "of unknown origin",
    "queued": "queued, with a vector",
    "empty": "with an empty text",
    "failed": "that failed before and are not due",
}
"""Reasons to take or leave a row."""


def print_plan(found: RunPlan) -> None:
    """Prints the plan of one target."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(coverage_table({"now": found.before}, f"{found.table}, {found.model}"))
    console.print(_rows(found), markup=False)
    if found.texts:
        console.print(_texts(found.texts, found.rows), markup=False)
    if found.tokens:
        console.print(_tokens(found.tokens, found.rows), markup=False)
        console.print(_histogram(found.tokens))
    if found.rate and found.seconds is not None:
        console.print(_time(found.rate, found.seconds), markup=False)
    if found.resources:
        console.print(_resources(found.resources), markup=False)
    for line in found.forecast.lines(found.table) if found.forecast else ():
        console.print(line, markup=False)
    if found.apis:
        console.print(_prices(found.apis))
    for note in found.notes:
        console.print(f"note: {note}", markup=False)
    for refusal in found.refusals:
        console.print(f"a run would end with exit code {refusal.exit_code}: {refusal.message}", markup=False)


def _rows(found: RunPlan) -> str:
    taken = ", ".join(f"{rows:,} {REASONS[reason]}" for reason, rows in found.reasons.items() if rows)
    open_rows = sum(found.reasons.values())
    limited = f" of {open_rows:,}" if found.rows < open_rows else ""
    parts = [f"{count_of(found.rows, 'row')} to embed{limited}{f' ({taken})' if taken else ''}"]
    parts += [f"{count_of(found.cleared, 'vector')} to clear (text became empty)"] if found.cleared else []
    left = ", ".join(f"{rows:,} {REASONS[reason]}" for reason, rows in found.left.items())
    return "; ".join([*parts, *([f"left alone: {left}"] if left else [])])


def _texts(texts: TextEstimate, rows: int) -> str:
    if not texts.exact and texts.distinct == rows:
        return f"up to {rows:,} distinct texts (no two of {texts.sampled:,} sampled rows have the same)"
    source = "all rows read" if texts.exact else f"estimated from {count_of(texts.sampled, 'row')}"
    return f"{'' if texts.exact else 'about '}{count_of(texts.distinct, 'distinct text')} ({source})"


def _tokens(tokens: TokenEstimate, rows: int) -> str:
    return (
        f"about {tokens.total:,} tokens to compute; a row has {tokens.mean:,.0f} on average, median {tokens.median:,}, "
        f"p95 {tokens.p95:,}, at most {tokens.most:,} in the sample ({tokens.tokenizer} tokenizer){_long(tokens, rows)}"
    )


def _long(tokens: TokenEstimate, rows: int) -> str:
    if tokens.limit is None:
        return ""
    long = f"; rows of more than {tokens.limit:,} tokens, which are"
    if tokens.windowed:
        return f"{long} embedded by windows: about {tokens.windowed:,} of {rows:,}, by {tokens.windows:,} windows"
    return f"{long} truncated: about {tokens.truncated:,} of {rows:,}"


def _histogram(tokens: TokenEstimate) -> Table:
    table = Table("tokens", "rows of the sample", box=None, padding=(0, 1))
    table.columns[0].justify = "right"
    most = max(tokens.histogram.values())
    for size, rows in tokens.histogram.items():
        table.add_row(f"≤ {size:,}", f"{rows:,}", Bar(most, 0, rows, width=BAR_WIDTH))
    return table


def _time(rate: Rate, seconds: float) -> str:
    return f"about {duration(seconds)} at {rate.rows_per_s:,.0f} rows/s ({_SOURCES[rate.source]}{rate.detail})"


_SOURCES = {"measured": "measured by ", "run": "by ", "assumed": ""}


def _resources(found: Resources) -> str:
    gpus = f"{count_of(found.gpus, 'GPU')}, {count_of(found.cores, 'core')} here"
    workers = (
        "workers depend on the cluster"
        if found.workers is None
        else "workers: " + ", ".join(f"{count} {stage}" for stage, count in found.workers.items())
    )
    connections = "" if found.connections is None else f", at most {found.connections} connections"
    return f"engine: {found.engine} on {found.device} ({found.reason}); {gpus}; {workers}{connections}"


def _prices(costs: tuple[ApiCost, ...]) -> Table:
    table = Table(title="cost of the tokens at an API", title_justify="left")
    for name in ("API", "USD", "USD by batch", "price of"):
        table.add_column(name, justify="right" if name.startswith("USD") else "left")
    for cost in costs:
        table.add_row(f"{cost.api}{' (--model)' if cost.chosen else ''}", *_usd(cost), cost.dated)
    return table


def _usd(cost: ApiCost) -> Iterator[str]:
    for usd in (cost.usd, cost.batch_usd):
        yield "?" if usd is None else f"{usd:,.2f}" if usd >= 1 or not usd else f"{usd:.2g}"
