"""The report as Markdown: the same words and tables as the page, without the figures."""

from __future__ import annotations

from collections.abc import Iterable

from vecfill.bench.api import tables, words
from vecfill.bench.api.method import caveats, machine_lines, method
from vecfill.bench.api.tables import Line
from vecfill.bench.api.words import Report


def markdown(report: Report) -> str:
    """The whole report."""
    told = report["modelled"]
    parts = [
        f"# {words.TITLE}",
        words.setting(report),
        "\n".join(f"> {sentence}  " for sentence in words.verdict(report)),
        f"## Measured\n\n{words.MEASURED}",
        _table(("", "local", "API"), tables.measured_lines(report)),
        *_headed("What the API was asked, in a round", ("", "API"), tables.request_lines(report)),
        f"### Quality\n\n{' '.join((words.agreement(report), *words.metrics(report), *words.unlabelled(report)))}",
        *_headed(None, ("", "local", "API", "by lot"), tables.quality_lines(report)),
        f"## Modelled\n\n{words.MODELLED}",
        *([_list(told["remarks"])] if told["remarks"] else []),
        f"Break-even: {words.break_even(report)}.",
        *([_list(tables.swing_lines(report))] if told["sensitivity"] else []),
        *_headed("What the account's tier lets through", tables.TIER_HEAD, tables.tier_lines(report)),
        *_headed("Other APIs, for the same rows", tables.PRICE_HEAD, tables.price_lines(report)),
        *_headed("Every assumption", ("", "value"), tables.assumption_lines(report)),
        f"### Where prices and limits are from\n\n{_list(tables.source_lines(report))}",
        f"## How it was done\n\n{_list(method(report))}",
        f"## What it does not say\n\n{_list(caveats(report))}",
        f"## Where\n\n{_list(machine_lines(report))}",
        f"## Again\n\n```bash\n{report['command']}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _headed(heading: str | None, head: Line, lines: list[Line]) -> list[str]:
    """A table under its heading; nothing where it is empty."""
    return [*([f"### {heading}"] if heading else []), _table(head, lines)] if lines else []


def _table(head: Line, lines: Iterable[Line]) -> str:
    rule = ("---", *("---:" for _ in head[1:]))
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in (head, rule, *lines))


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
