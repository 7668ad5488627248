"""The report of ``bench pipeline`` as files: throughput as bars, the stages' work over time, and a page with both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecfill.bench import report as words
from vecfill.bench.render import check_folder, png, render, svg, write_files
from vecfill.bench.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, THEIRS, ALONE = "#1f6f8b", "#b8b8b8", "#8fc1b5"
_STAGE_COLORS = {"read": "#8fc1b5", "encode": "#1f6f8b", "write": "#e29b4b"}
_WIDTH = 10.0
"""Inches."""
_THINNEST = 0.003
"""Least width of a bar as a share of the timeline: a read of 5 ms in a run of 10 s would be invisible."""


def write_report(report: Report, folder: Path) -> list[Path]:
    """Writes ``pipeline.json``, the drawings as PNG, and ``pipeline.html`` with all of it; returns the files.

    Raises:
        ConfigError: the folder cannot be written.
    """
    check_folder(folder)
    drawn = {"throughput": throughput(report)} | ({"timeline": timeline(report)} if report["timeline"] else {})
    contents: dict[str, str | bytes] = {"pipeline.json": json.dumps(report, indent=2)}
    contents |= {f"pipeline-{name}.png": png(figure) for name, figure in drawn.items()}
    contents["pipeline.html"] = render(
        "pipeline.html.j2",
        drawings=[svg(figure) for figure in drawn.values()],
        columns=words.COLUMNS,
        groups=[(title, [words.cells(line) for line in lines]) for title, lines in words.by_group(report)],
        legend=words.legend("pipeline", report),
        ratios=words.ratio_lines(report),
        contenders=report["contenders"],
        machine=words.machine_lines(report),
        command=report["command"],
    )
    return write_files(folder, contents)


def throughput(report: Report) -> Figure:
    """Bars of rows a second, a panel a group, each with its ratio to the yardstick."""
    from matplotlib.figure import Figure

    groups = list(words.by_group(report))
    heights = [len(lines) + 1.2 for _, lines in groups]
    figure = Figure(figsize=(_WIDTH, 0.42 * sum(heights) + 0.6), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for panel, (title, lines) in zip(panels, groups, strict=True):
        _bars(panel, lines)
        _styled(panel, title, [line["name"] for line in lines], "rows/s")
    about = report["machine"]
    place = f"{about['cpu']}, {about['cores']} cores · {report['model']} · median of {report['rounds']} rounds"
    figure.supxlabel(place, fontsize=8, color="#555555")
    return figure


def _bars(panel: Axes, lines: list[Report]) -> None:
    rates = [line["rows_per_s"] or 0.0 for line in lines]
    bars = panel.barh(range(len(lines)), rates, color=[_color(line["name"]) for line in lines], height=0.72)
    for text in panel.bar_label(bars, [_label(line) for line in lines], padding=5, fontsize=9):
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.0})
    yardstick = next((line["rows_per_s"] for line in lines if line["name"] == line["against"]), None)
    if yardstick:
        panel.axvline(yardstick, color="#555555", linewidth=0.8, linestyle=":", zorder=0.5)
    panel.set_xlim(0, max([*rates, 1.0]) * 1.38)
    panel.xaxis.set_major_formatter("{x:,.0f}")


def _styled(panel: Axes, title: str, rows: list[str], label: str) -> None:
    """Names the rows from top to bottom; title and axis."""
    panel.set_yticks(range(len(rows)), rows, fontsize=9)
    panel.invert_yaxis()
    panel.set_xlabel(label, fontsize=9)
    panel.tick_params(labelsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_title(title, loc="left", fontsize=10, fontweight="bold")


def _color(name: str) -> str:
    if "alone" in name:
        return ALONE
    return THEIRS if name.startswith(("encode", "ray recipe", "bare")) else OURS


def _label(line: Report) -> str:
    if line["rows_per_s"] is None:
        return "too few blocks"
    if line["name"] == line["against"] or line["ratio"] is None:
        return f"{line['rows_per_s']:,.0f} rows/s"
    found = line["ratio"]
    return f"{line['rows_per_s']:,.0f} rows/s, {found['median']:.2f}× ({found['least']:.2f}–{found['greatest']:.2f})"


def timeline(report: Report) -> Figure:
    """When each stage was at work in one in-process run: a row a stage, a bar a block."""
    from matplotlib.figure import Figure

    found = report["timeline"]
    figure = Figure(figsize=(_WIDTH, 2.6), layout="constrained")
    panel = figure.subplots()
    stages = [stage for stage in _STAGE_COLORS if stage in found["spans"]]
    for row, stage in enumerate(stages):
        spans = found["spans"][stage]
        bars = [(start, max(end - start, _THINNEST * found["seconds"])) for start, end, _ in spans]
        panel.broken_barh(bars, (row - 0.36, 0.72), color=_STAGE_COLORS[stage], edgecolor="white", linewidth=0.4)
    blocks = len(found["spans"][stages[0]])
    title = f"{found['contender']}: when each stage was at work, {blocks} blocks, one run"
    _styled(panel, title, [_busy(stage, found) for stage in stages], "seconds")
    panel.set_xlim(0, found["seconds"] * 1.01)
    return figure


def _busy(stage: str, found: dict[str, Any]) -> str:
    """The stage and the share of the time in which it was at work."""
    at, covered = 0.0, 0.0
    for start, end, _ in sorted(found["spans"][stage]):
        covered += max(0.0, end - max(start, at))
        at = max(at, end)
    return f"{stage} ({100 * covered / found['seconds']:.0f}% busy)"
