"""The report, and the dry run, on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from vecfill.bench.api import amounts, tables, words
from vecfill.bench.api.tables import Line


def tell(found: dict[str, Any]) -> None:
    """Prints what was measured and reckoned, or what it would cost."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    if found.get("dry_run"):
        _say(console, dry_run(found))
        return
    _say(console, [words.setting(found), *words.verdict(found)])
    console.print(_table("measured", ("", "local", "API"), tables.measured_lines(found)))
    if lines := tables.request_lines(found):
        console.print(_table("measured: what the API was asked, in a round", ("", "API"), lines))
    if lines := tables.quality_lines(found):
        console.print(_table("measured: quality", ("", "local", "API", "by lot"), lines))
    _say(console, [words.agreement(found), *words.metrics(found), *words.unlabelled(found)])
    console.print(_table("modelled: the same rows through other APIs", tables.PRICE_HEAD, tables.price_lines(found)))
    _say(console, [*tables.swing_lines(found), *found["modelled"]["remarks"]])


def _say(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _table(title: str, head: Line, lines: Iterable[Line]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(head):
        table.add_column(column, justify="right" if number else "left")
    for line in lines:
        table.add_row(*line)
    return table


def dry_run(found: dict[str, Any]) -> list[str]:
    """What the rows would cost, and what is not known."""
    kind = "" if found["tokens_exact"] else "about "
    lines = [
        f"{found['rows']:,} rows of {found['corpus']}, {found['distinct']:,} distinct texts: {kind}"
        f"{found['tokens']:,} tokens by the tokenizer of {found['tokenizer']}; {found['tokens_distinct']:,} where each "
        "distinct text is sent once",
    ]
    if found["price_of"]:
        lines += [
            f"{found['price_of']}: {amounts.usd(found['usd_per_million_tokens'])} a million tokens ({found['dated']}, "
            f"{found['source']})",
            f"one fill: {amounts.usd(found['usd'])}; each distinct text once: {amounts.usd(found['usd_distinct'])}; "
            f"by the batch API: {amounts.usd(found['usd_batch'])}",
        ]
    lines.append(
        f"this comparison, all rounds and queries: {kind}{found['comparison_tokens']:,} tokens, "
        f"{amounts.usd(found['usd_comparison'])}, in at least {found['comparison_requests']:,} requests"
    )
    return [*lines, *found["remarks"], "nothing was sent to the API"]
