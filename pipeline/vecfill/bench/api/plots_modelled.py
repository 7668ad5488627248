"""The figures of what is reckoned: dashed lines and hatched bars on a tint."""

from __future__ import annotations

import math
from typing import Any

from vecfill.bench.api import amounts, tables
from vecfill.bench.api.sides import API, LOCAL
from vecfill.bench.api.style import COLORS, FAINT, INK, Plot, canvas, line_style, svg_of

Report = dict[str, Any]

BATCH = "#9a7d1f"
LEAST_ROWS, MOST_ROWS = 1e3, 1e13
"""Ends of the axis of break-evens."""


def plots(report: Report) -> list[Plot]:
    """Those that the known prices and limits allow."""
    told = report["modelled"]
    curves = told["curves"]
    found = [_cost(told)] if curves["local_usd"] and curves["api_usd"] else []
    if curves["local_s"] and any(tier["seconds"] for tier in told["tiers"]):
        found.append(_time(told))
    if curves["cheaper_from"] and any(curves["cheaper_from"]):
        found.append(_growth(told))
    return [*found, _tornado(told)] if told["sensitivity"] else found


def _log_rows(panel: Any, label: str) -> None:
    from matplotlib.ticker import LogLocator

    panel.set_xscale("log")
    panel.set_xlabel(label)
    panel.xaxis.set_major_locator(LogLocator(numticks=7))
    panel.xaxis.set_major_formatter(lambda value, _: short(value))


def short(value: float) -> str:
    """A power of ten on an axis: ``1k``, ``10M``, ``1G``."""
    for unit, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _cost(told: Report) -> Plot:
    curves, style = told["curves"], line_style(modelled=True)
    with canvas(modelled=True) as (figure, panel):
        panel.plot(curves["rows"], curves["local_usd"], color=COLORS[LOCAL], label="local", **style)
        panel.plot(curves["rows"], curves["api_usd"], color=COLORS[API], label="API", **style)
        if curves["api_batch_usd"]:
            panel.plot(curves["rows"], curves["api_batch_usd"], color=BATCH, label="batch API (hours later)", **style)
        if told["cheaper"] and told["cheaper"]["at"]:
            _mark(panel, told["cheaper"]["at"], curves["rows"], curves["api_usd"])
        _log_rows(panel, "rows of the corpus")
        panel.set_yscale("log")
        panel.set_ylim(bottom=1e-3)
        panel.yaxis.set_major_formatter(lambda value, _: f"${short(value) if value >= 1 else f'{value:g}'}")
        panel.set_ylabel(f"USD, over {told['assumptions']['months']:g} months")
        panel.legend(loc="upper left", fontsize=8)
        title = "What a corpus costs, by its size"
        return Plot(
            name="cost",
            title=title,
            modelled=True,
            source="modelled.curves, modelled.cheaper",
            svg=svg_of(figure, title),
        )


def _mark(panel: Any, rows: float, xs: list[float], ys: list[float]) -> None:
    """Marks the break-even where it lies inside the curves."""
    if not xs[0] <= rows <= xs[-1]:
        return
    after = next(place for place, x in enumerate(xs) if x >= rows)
    low, high = max(0, after - 1), after
    share = math.log(rows / xs[low]) / math.log(xs[high] / xs[low]) if high > low else 0.0
    height = ys[low] * (ys[high] / ys[low]) ** share if ys[low] > 0 else ys[high]
    panel.plot([rows], [height], "o", color=INK, markersize=5)
    panel.annotate(
        f"equal at {amounts.rows_told(rows)}",
        (rows, height),
        xytext=(-7, 6),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        fontweight="bold",
    )


def _time(told: Report) -> Plot:
    curves, style = told["curves"], line_style(modelled=True)
    with canvas(modelled=True) as (figure, panel):
        panel.plot(curves["rows"], curves["local_s"], color=COLORS[LOCAL], label="local, at the measured rate", **style)
        seen: set[float] = set()
        tiers = [one for one in told["tiers"] if one["seconds"]]
        for place, tier in enumerate(tiers):
            if tier["most_rows_per_s"] in seen:
                continue
            seen.add(tier["most_rows_per_s"])
            alpha = 0.45 + 0.55 * place / max(1, len(tiers) - 1)
            panel.plot(
                curves["rows"], tier["seconds"], color=COLORS[API], alpha=alpha, label=f"API, {tier['name']}", **style
            )
        _log_rows(panel, "rows of the corpus")
        panel.set_yscale("log")
        ticks = {1: "1 s", 60: "1 min", 3_600: "1 h", 86_400: "1 day", 2_592_000: "30 days"}
        panel.set_yticks(list(ticks), list(ticks.values()))
        panel.minorticks_off()
        panel.set_ylim(0.5, 3.2e7)
        panel.set_ylabel("time of the first fill")
        panel.legend(loc="upper left", fontsize=8)
        title = "How long the first fill takes at best, by the account's tier"
        return Plot(
            name="time",
            title=title,
            modelled=True,
            source="modelled.curves.local_s, modelled.tiers",
            svg=svg_of(figure, title),
        )


def _growth(told: Report) -> Plot:
    curves = told["curves"]
    known = [
        (growth, min(max(rows, LEAST_ROWS), MOST_ROWS))
        for growth, rows in zip(curves["growth"], curves["cheaper_from"], strict=True)
        if rows is not None
    ]
    xs, ys = zip(*known, strict=True)
    with canvas(modelled=True) as (figure, panel):
        panel.plot(xs, ys, color=INK, **line_style(modelled=True))
        panel.fill_between(xs, ys, MOST_ROWS, facecolor="none", edgecolor=COLORS[LOCAL], alpha=0.5, hatch="////", lw=0)
        panel.fill_between(xs, LEAST_ROWS, ys, facecolor="none", edgecolor=COLORS[API], alpha=0.5, hatch="....", lw=0)
        box = {"facecolor": "#fbf6e9", "edgecolor": "none", "pad": 2.5}
        panel.text(0.97, 0.94, "local is cheaper", transform=panel.transAxes, ha="right", va="top", bbox=box)
        panel.text(0.03, 0.05, "API is cheaper", transform=panel.transAxes, va="bottom", bbox=box)
        _log_rows(panel, "growth, rows a month")
        panel.set_yscale("log")
        panel.set_xlim(xs[0], curves["growth"][-1])
        panel.set_ylim(LEAST_ROWS, max(1e10, 30 * max(ys)) if max(ys) < MOST_ROWS else MOST_ROWS)
        panel.yaxis.set_major_formatter(lambda value, _: short(value))
        panel.set_ylabel("rows of the first fill")
        title = "Which side is cheaper, by first fill and growth"
        return Plot(
            name="growth",
            title=title,
            modelled=True,
            source="modelled.curves.cheaper_from",
            svg=svg_of(figure, title),
        )


def _tornado(told: Report) -> Plot:
    swings = told["sensitivity"]
    base = told["cheaper"]["at"] if told["cheaper"] else None
    with canvas(modelled=True, height=2.5) as (figure, panel):
        for row, one in enumerate(swings):
            ends = sorted(_placed(one[name]) for name in ("at_low", "at_high"))
            panel.barh(
                row,
                ends[1] - ends[0],
                left=ends[0],
                height=0.5,
                facecolor="#eadfbb",
                edgecolor=FAINT,
                hatch="////",
                linewidth=0.8,
            )
            for name, factor in (("at_low", "½"), ("at_high", "2×")):
                left = _placed(one[name]) == ends[0]
                panel.annotate(
                    f"{factor}: {tables.end_told(one[name])}",
                    (_placed(one[name]), row),
                    xytext=(-4 if left else 4, 0),
                    textcoords="offset points",
                    ha="right" if left else "left",
                    va="center",
                    fontsize=8,
                )
        if base:
            panel.axvline(base, color=INK, linewidth=1.2)
        names = [tables.FIELDS[one["name"]].replace(", ", ",\n", 1) for one in swings]
        panel.set_yticks(range(len(swings)), names, fontsize=8)
        panel.invert_yaxis()
        panel.grid(visible=False, axis="y")
        _log_rows(panel, "rows from which local is cheaper")
        ends = [_placed(one[name]) for one in swings for name in ("at_low", "at_high")]
        room = (max(ends) / min(ends)) ** 0.5 * 3.0
        panel.set_xlim(min(ends) / room, max(ends) * room)
        title = "How far the break-even moves with the three largest assumptions, halved and doubled"
        return Plot(
            name="sensitivity", title=title, modelled=True, source="modelled.sensitivity", svg=svg_of(figure, title)
        )


def _placed(rows: float | None) -> float:
    return MOST_ROWS if rows is None else min(max(rows, LEAST_ROWS), MOST_ROWS)
