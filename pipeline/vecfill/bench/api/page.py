"""The report as one HTML page that needs nothing but itself: the verdict, what was measured, what is reckoned, how."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from vecfill.bench.api import tables, words
from vecfill.bench.api.method import caveats, machine_lines, method
from vecfill.bench.api.sheet import SHEET
from vecfill.bench.api.style import Plot
from vecfill.bench.api.tables import Line
from vecfill.bench.api.words import Report

BOTH = ("", "local", "API")

_SIDE = {"local": ' class="local"', "API": ' class="api"'}
_STRONG = ' class="main"'


def page(report: Report, plots: Sequence[Plot]) -> str:
    """The page."""
    body = "\n".join(
        (
            _head(report),
            "<main>",
            _measured(report, [plot for plot in plots if not plot.modelled]),
            _modelled(report, [plot for plot in plots if plot.modelled]),
            _how(report),
            "</main>",
            f"<footer>vecfill {_e(report['machine']['versions']['vecfill'])}, {_e(report['made'])}. "
            "Every figure stands in api.json beside this page.</footer>",
        )
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{words.TITLE}</title><style>{SHEET}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _e(text: object) -> str:
    return html.escape(str(text))


def _head(report: Report) -> str:
    first, *others = words.verdict(report)
    verdict = f"<strong>{_e(first)}</strong> {_e(' '.join(others))}"
    return (
        f'<header><h1>{words.TITLE}</h1><p class="setting">{_e(words.setting(report))}</p>'
        f'<p class="verdict">{verdict}</p></header>'
    )


def _measured(report: Report, plots: Sequence[Plot]) -> str:
    sides = f"Local: {words.name_of(report, 'local')}, {words.place_of(report, 'local')}. "
    sides += f"API: {words.name_of(report, 'api')} {words.place_of(report, 'api')}."
    parts = [
        '<section class="measured"><span class="badge is-measured">Measured</span><h2>What both sides did</h2>',
        f'<p class="note">{words.MEASURED} {_e(sides)}</p>',
        _table(BOTH, tables.measured_lines(report), strong=1),
        _figures(report, plots),
    ]
    if lines := tables.request_lines(report):
        parts += ["<h3>What the API was asked, in a round</h3>", _table(("", "API"), lines)]
    quality = " ".join((words.agreement(report), *words.metrics(report), *words.unlabelled(report)))
    parts.append(f"<h3>Quality</h3><p>{_e(quality)}</p>")
    if lines := tables.quality_lines(report):
        parts.append(_table((*BOTH, "by lot"), lines))
    return "\n".join((*parts, "</section>"))


def _modelled(report: Report, plots: Sequence[Plot]) -> str:
    parts = [
        '<section class="modelled"><span class="badge is-modelled">Modelled</span><h2>What it would come to</h2>',
        f'<p class="note">{words.MODELLED}</p>',
        _warning(report["modelled"]["remarks"]),
        f"<p>{_e(_sentence(words.break_even(report)))}</p>",
        _figures(report, plots),
    ]
    if swings := tables.swing_lines(report):
        parts += ["<h3>The three assumptions that move the break-even most</h3>", _list(swings)]
    if tiers := tables.tier_lines(report):
        parts += ["<h3>What the account's tier lets through</h3>", _table(tables.TIER_HEAD, tiers, wide=True)]
    if prices := tables.price_lines(report):
        parts += ["<h3>Other APIs, for the same rows</h3>", _table(tables.PRICE_HEAD, prices, wide=True)]
    parts += ["<h3>Every assumption</h3>", _table(("", "value"), tables.assumption_lines(report))]
    parts += ["<h3>Where prices and limits are from</h3>", _list(tables.source_lines(report))]
    return "\n".join((*parts, "</section>"))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _how(report: Report) -> str:
    return "\n".join(
        (
            "<section><h2>How it was done</h2>",
            _list(method(report)),
            "<h2>What it does not say</h2>",
            _list(caveats(report)),
            "<h2>Where</h2>",
            _list(machine_lines(report)),
            f"<h2>Again</h2><p>This command gives every figure again:</p><pre>{_e(report['command'])}</pre></section>",
        )
    )


def _warning(remarks: Sequence[str]) -> str:
    return f'<div class="warn">{_list([_sentence(one) for one in remarks])}</div>' if remarks else ""


def _figures(report: Report, plots: Sequence[Plot]) -> str:
    return f'<div class="figures">{"".join(_figure(report, plot) for plot in plots)}</div>' if plots else ""


def _figure(report: Report, plot: Plot) -> str:
    kind = "Modelled" if plot.modelled else f"Measured, {words.rounds_told(report)}"
    return (
        f'<figure id="{plot.name}"><h3>{_e(plot.title)}</h3>{plot.svg}<figcaption>{kind}. Source: {_e(plot.source)} '
        f"in api.json.<details><summary>The command that gives it again</summary><code>{_e(report['command'])}</code>"
        "</details></figcaption></figure>"
    )


def _table(head: Line, lines: Iterable[Line], *, strong: int = 0, wide: bool = False) -> str:
    """``strong`` lines at the top are set off; a ``wide`` one scrolls by itself on a small screen."""
    top = "".join(f"<th{'' if wide else _SIDE.get(cell, '')}>{_e(cell)}</th>" for cell in head)
    rows = "".join(_row(line, _STRONG if number < strong else "") for number, line in enumerate(lines))
    kind = ' class="wide"' if wide else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row(line: Line, kind: str) -> str:
    return f"<tr{kind}>{''.join(f'<td>{_e(cell)}</td>' for cell in line)}</tr>"


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_e(line)}</li>' for line in lines)}</ul>"
