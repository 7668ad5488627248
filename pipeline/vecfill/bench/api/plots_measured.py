"""The figures of what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecfill.bench.api import amounts, tables
from vecfill.bench.api.sides import API, LOCAL, SIDES
from vecfill.bench.api.style import COLORS, INK, NAMES, Plot, canvas, line_style, svg_of

Report = dict[str, Any]

_POINTS_APART = 0.06


def plots(report: Report) -> list[Plot]:
    """Throughput, latencies, and quality where there is any."""
    found = [_throughput(report), _latency(report)]
    return [*found, _quality(report)] if tables.quality_lines(report) else found


def _throughput(report: Report) -> Plot:
    sides = report["measured"]["sides"]
    with canvas(modelled=False, height=2.3) as (figure, panel):
        for row, side in enumerate(SIDES):
            rounds = sides[side]["rounds"]
            panel.barh(row, sides[side]["rows_per_s"], color=COLORS[side], height=0.56)
            places = row + _POINTS_APART * (np.arange(len(rounds)) - (len(rounds) - 1) / 2)
            panel.plot(rounds, places, "o", markersize=4, color=INK, markerfacecolor="white", linestyle="none")
            panel.annotate(
                f"{amounts.number(sides[side]['rows_per_s'])}",
                (max(rounds), row),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontweight="bold",
            )
        panel.set_yticks(range(len(SIDES)), [NAMES[side] for side in SIDES])
        panel.invert_yaxis()
        panel.grid(visible=False, axis="y")
        panel.set_xlim(0, 1.18 * max(max(sides[side]["rounds"]) for side in SIDES))
        panel.set_xlabel("rows/s, database to database (bar: median, points: rounds)")
        title = "Rows a second, from PostgreSQL to PostgreSQL"
        return Plot(
            name="throughput",
            title=title,
            modelled=False,
            source="measured.sides.*.rounds",
            svg=svg_of(figure, title),
        )


def _latency(report: Report) -> Plot:
    sides = report["measured"]["sides"]
    with canvas(modelled=False) as (figure, panel):
        for side in SIDES:
            _share(panel, sides[side]["queries_s"], COLORS[side], f"single query, {NAMES[side]}")
        if requests := sides[API]["requests"]:
            _share(panel, requests["latencies_s"], COLORS[API], "request of the fill, API", width=1.0)
        panel.set_xscale("log")
        panel.set_ylim(0, 1.02)
        panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        panel.set_xlabel("milliseconds")
        panel.set_ylabel("done within")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        figure.legend(loc="outside upper left", ncols=2, fontsize=8)
        title = "How long a query waits, and a request of the fill"
        source = "measured.sides.*.queries_s, measured.sides.api.requests.latencies_s"
        return Plot(name="latency", title=title, modelled=False, source=source, svg=svg_of(figure, title))


def _share(panel: Any, seconds: list[float], color: str, label: str, width: float = 2.0) -> None:
    """The share that is done within a time: a step a value."""
    values = 1e3 * np.sort(np.asarray(seconds))
    shares = np.arange(1, len(values) + 1) / max(1, len(values))
    panel.step(
        values, shares, where="post", color=color, label=label, **line_style(modelled=False) | {"linewidth": width}
    )


def _quality(report: Report) -> Plot:
    found, asked = report["measured"]["quality"], report["measured"]["retrieval"]
    groups: list[tuple[str, dict[str, Any], str, float | None]] = []
    if (label := found["label"]) and label["asked"]:
        groups.append((f"precision\nby {label['column']}", label, "precision", label["chance"]))
        groups.append((f"nDCG\nby {label['column']}", label, "ndcg", None))
    if asked:
        groups.append(("precision\nretrieval set", asked, "precision", asked["chance"]))
        groups.append(("nDCG\nretrieval set", asked, "ndcg", None))
    with canvas(modelled=False) as (figure, panel):
        for at, (_, told, metric, chance) in enumerate(groups):
            for shift, side in ((-0.19, LOCAL), (0.19, API)):
                _bar(panel, at + shift, told[side][metric], COLORS[side])
            if chance is not None:
                panel.plot([at - 0.42, at + 0.42], [chance, chance], color=INK, linewidth=1.0, linestyle=":")
        panel.set_xticks(range(len(groups)), [name for name, *_ in groups], fontsize=8)
        panel.grid(visible=False, axis="x")
        tops = [told[side][metric]["high"] for _, told, metric, _ in groups for side in SIDES if told[side][metric]]
        panel.set_ylim(0, min(1.15, 1.3 * max([*tops, 0.1])))
        panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        panel.set_ylabel(f"of the first {found['k']}, with 95% interval")
        handles = [_patch(COLORS[side], NAMES[side]) for side in SIDES]
        panel.legend(handles=[*handles, _dots("by lot")], loc="upper left", ncols=3, fontsize=8)
        title = "Quality: do neighbours and results belong together?"
        source = "measured.quality.label, measured.retrieval"
        return Plot(name="quality", title=title, modelled=False, source=source, svg=svg_of(figure, title))


def _bar(panel: Any, at: float, mean: dict[str, Any] | None, color: str) -> None:
    if mean is None:
        return
    panel.bar(at, mean["mean"], width=0.36, color=color)
    panel.plot([at, at], [mean["low"], mean["high"]], color=INK, linewidth=1.2)


def _patch(color: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=color, label=label)


def _dots(label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=INK, linewidth=1.0, linestyle=":", label=label)
