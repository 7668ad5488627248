"""The page's drawings: measured ones solid on white, modelled ones dashed on a tint."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vecfill.bench.api.amounts import number, rows_short
from vecfill.bench.api.sides import API, LOCAL, SIDES
from vecfill.bench.api.tables import Report
from vecfill.bench.render import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {LOCAL: "#14687f", API: "#c2502e"}
NAMES = {LOCAL: "local model", API: "API"}
BATCH, INK, FAINT, TINT = "#9a7d1f", "#1d2529", "#68747b", "#fbf6e9"
WIDTH, HEIGHT = 5.0, 3.1
"""Inches: at 390 pixels of width 9-point letters are still readable."""

MODELLED: dict[str, Any] = {"linestyle": (0, (5, 2)), "linewidth": 1.6}
_POINTS_APART = 0.06
_TICKS = {1: "1 s", 60: "1 min", 3_600: "1 h", 86_400: "1 day", 2_592_000: "30 days"}

_SETTINGS: dict[Any, Any] = {
    **{"font.size": 9.0, "axes.labelsize": 9.0, "axes.edgecolor": FAINT, "axes.labelcolor": INK, "text.color": INK},
    **{"xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelcolor": INK, "ytick.labelcolor": INK},
    **{"axes.grid": True, "grid.color": "#dfe4e6", "grid.linewidth": 0.6, "axes.axisbelow": True},
    **{"legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "vecfill"},
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A drawing of the page, measured or modelled; ``source`` is where its numbers are in the JSON."""

    name: str
    title: str
    modelled: bool
    source: str
    svg: str


def drawings(report: Report) -> list[Drawing]:
    """The measured rates; modelled cost and time, where prices and limits are known."""
    found, modelled = [_throughput(report["measured"]["sides"])], report["modelled"]
    if modelled["curves"]["local_usd"] and modelled["curves"]["api_usd"]:
        found.append(_cost(modelled))
    if modelled["curves"]["local_s"] and any(tier["seconds"] for tier in modelled["tiers"]):
        found.append(_time(modelled))
    return found


@contextmanager
def _canvas(*, modelled: bool, height: float = HEIGHT) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one panel, in the style of its kind."""
    import matplotlib
    from matplotlib.figure import Figure

    background = TINT if modelled else "white"
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=background)
        panel = figure.subplots()
        panel.set_facecolor(background)
        panel.spines[["top", "right"]].set_visible(False)
        yield figure, panel


def _drawing(figure: Figure, name: str, title: str, source: str, *, modelled: bool = False) -> Drawing:
    """The figure with its description, and without a size of its own."""
    opening, rest = svg(figure).split(">", 1)
    kept = [part for part in opening.split(" ") if not part.startswith(("width=", "height="))]
    text = f'{" ".join(kept)} role="img" aria-label="{html.escape(title, quote=True)}">{rest}'
    return Drawing(name=name, title=title, modelled=modelled, source=source, svg=text)


def _throughput(sides: Report) -> Drawing:
    with _canvas(modelled=False, height=2.3) as (figure, panel):
        for row, side in enumerate(SIDES):
            rounds = sides[side]["rounds"]
            panel.barh(row, sides[side]["rows_per_s"], color=COLORS[side], height=0.56)
            places = row + _POINTS_APART * (np.arange(len(rounds)) - (len(rounds) - 1) / 2)
            panel.plot(rounds, places, "o", markersize=4, color=INK, markerfacecolor="white", linestyle="none")
            label, end = number(sides[side]["rows_per_s"]), (max(rounds), row)
            panel.annotate(label, end, (8, 0), textcoords="offset points", va="center", fontweight="bold")
        panel.set_yticks(range(len(SIDES)), [NAMES[side] for side in SIDES])
        panel.invert_yaxis()
        panel.grid(visible=False, axis="y")
        panel.set_xlim(0, 1.18 * max(max(sides[side]["rounds"]) for side in SIDES))
        panel.set_xlabel("rows/s, database to database (bar: median, points: rounds)")
        return _drawing(figure, "throughput", "Rows/s, from PostgreSQL to PostgreSQL", "measured.sides.*.rounds")


def _log_rows(panel: Axes) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator

    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("rows of the corpus")
    panel.xaxis.set_major_locator(LogLocator(numticks=7))
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))


def _cost(modelled: Report) -> Drawing:
    curves, found = modelled["curves"], modelled["cheaper"]
    with _canvas(modelled=True) as (figure, panel):
        panel.plot(curves["rows"], curves["local_usd"], color=COLORS[LOCAL], label="local", **MODELLED)
        panel.plot(curves["rows"], curves["api_usd"], color=COLORS[API], label="API", **MODELLED)
        if curves["api_batch_usd"]:
            label = "batch API (hours later)"
            panel.plot(curves["rows"], curves["api_batch_usd"], color=BATCH, label=label, **MODELLED)
        if found and found["at"] and curves["rows"][0] <= found["at"] <= curves["rows"][-1]:
            _mark(panel, found["at"], curves["rows"], curves["api_usd"])
        _log_rows(panel)
        panel.set_ylim(bottom=1e-3)
        panel.yaxis.set_major_formatter(lambda value, _: f"${value:,g}")
        panel.set_ylabel(f"USD, over {modelled['assumptions']['months']:g} months")
        panel.legend(loc="upper left", fontsize=8)
        source = "modelled.curves, modelled.cheaper"
        return _drawing(figure, "cost", "What a corpus costs, by its size", source, modelled=True)


def _mark(panel: Axes, rows: float, xs: list[float], ys: list[float]) -> None:
    """Marks the break-even on a curve."""
    height = math.exp(np.interp(math.log(rows), np.log(xs), np.log(np.maximum(ys, 1e-12))))
    panel.plot([rows], [height], "o", color=INK, markersize=5)
    label = panel.text(rows / 1.6, height * 2.5, f"equal at {rows_short(rows)}", ha="right", fontsize=8)
    label.set(fontweight="bold", bbox={"facecolor": TINT, "edgecolor": "none", "pad": 1.5})


def _time(modelled: Report) -> Drawing:
    curves = modelled["curves"]
    tiers = {one["most_rows_per_s"]: one for one in reversed(modelled["tiers"]) if one["seconds"]}  # one a rate
    with _canvas(modelled=True) as (figure, panel):
        label = "local, at the measured rate"
        panel.plot(curves["rows"], curves["local_s"], color=COLORS[LOCAL], label=label, **MODELLED)
        for place, tier in enumerate(reversed(tiers.values())):
            alpha = 0.45 + 0.55 * place / max(1, len(tiers) - 1)
            label = f"API, {tier['name']}"
            panel.plot(curves["rows"], tier["seconds"], color=COLORS[API], alpha=alpha, label=label, **MODELLED)
        _log_rows(panel)
        panel.set_yticks(list(_TICKS), list(_TICKS.values()))
        panel.minorticks_off()
        panel.set_ylim(0.5, 3.2e7)
        panel.set_ylabel("time of the first fill")
        panel.legend(loc="upper left", fontsize=8)
        title = "How long the first fill takes at best, by the account's tier"
        return _drawing(figure, "time", title, "modelled.curves.local_s, modelled.tiers", modelled=True)
