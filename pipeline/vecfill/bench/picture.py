"""The report as pictures: throughput as bars, the stages' work over time; PNG, and a page that needs nothing else."""

from __future__ import annotations

import html
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecfill.bench import report as words
from vecfill.bench.report import Report
from vecfill.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, THEIRS, ALONE = "#1f6f8b", "#b8b8b8", "#8fc1b5"
_STAGE_COLORS = {"read": "#8fc1b5", "encode": "#1f6f8b", "write": "#e29b4b"}
_WIDTH = 10.0
"""Inches."""
_THINNEST = 0.003
"""Share of the timeline that a bar has at least: a read of 5 ms in a run of 10 s would not be seen."""
_METADATA = ("Date", "Creator", "Format", "Type")
"""Left out of an SVG: they name addresses, and a page that names none can be seen to fetch none."""


def check_matplotlib() -> None:
    """Tells before anything is measured that the pictures cannot be drawn.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError("--report draws with matplotlib: pip install 'vecfill[bench]', or leave it out") from error


def write_report(report: Report, folder: Path) -> list[Path]:
    """Writes ``pipeline.json``, the pictures as PNG, and ``pipeline.html`` with all of it; returns the files.

    Raises:
        ConfigError: the folder cannot be written.
    """
    drawn = {"throughput": throughput(report)} | ({"timeline": timeline(report)} if report["timeline"] else {})
    contents: dict[str, bytes] = {"pipeline.json": json.dumps(report, indent=2).encode()}
    contents |= {f"pipeline-{name}.png": _saved(figure, "png") for name, figure in drawn.items()}
    contents["pipeline.html"] = page(report, {name: _svg(figure) for name, figure in drawn.items()}).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise ConfigError(f"--report {folder} cannot be written: {error.strerror}: name another folder") from error
    return [folder / name for name in contents]


def throughput(report: Report) -> Figure:
    """Bars of rows a second, a panel a group, each with its ratio to the yardstick."""
    from matplotlib.figure import Figure

    groups = list(words.by_group(report))
    heights = [len(lines) + 1.2 for _, lines in groups]
    figure = Figure(figsize=(_WIDTH, 0.42 * sum(heights) + 0.6), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for panel, (group, lines) in zip(panels, groups, strict=True):
        _bars(panel, lines)
        panel.set_title(words.title(report, group, lines), loc="left", fontsize=10, fontweight="bold")
    figure.supxlabel(_place(report), fontsize=8, color="#555555")
    return figure


def _bars(panel: Axes, lines: list[dict[str, Any]]) -> None:
    rates = [line["rows_per_s"] or 0.0 for line in lines]
    bars = panel.barh(range(len(lines)), rates, color=[_color(line["name"]) for line in lines], height=0.72)
    for text in panel.bar_label(bars, [_label(line) for line in lines], padding=5, fontsize=9):
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.0})
    yardstick = next((line["rows_per_s"] for line in lines if line["name"] == line["against"]), None)
    if yardstick:
        panel.axvline(yardstick, color="#555555", linewidth=0.8, linestyle=":", zorder=0.5)
    panel.set_yticks(range(len(lines)), [line["name"] for line in lines], fontsize=9)
    panel.invert_yaxis()
    panel.set_xlim(0, max([*rates, 1.0]) * 1.38)
    panel.set_xlabel("rows/s", fontsize=9)
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.tick_params(labelsize=9)
    panel.spines[["top", "right"]].set_visible(False)


def _color(name: str) -> str:
    if "alone" in name:
        return ALONE
    return THEIRS if name.startswith(("encode", "ray recipe", "bare")) else OURS


def _label(line: dict[str, Any]) -> str:
    if line["rows_per_s"] is None:
        return "too few blocks"
    if line["name"] == line["against"] or line["ratio"] is None:
        return f"{line['rows_per_s']:,.0f} rows/s"
    found = line["ratio"]
    return f"{line['rows_per_s']:,.0f} rows/s, {found['median']:.2f}× ({found['least']:.2f}–{found['greatest']:.2f})"


def timeline(report: Report) -> Figure:
    """When each stage was at work in one run in-process: a row a stage, a bar a block."""
    from matplotlib.figure import Figure

    told = report["timeline"]
    figure = Figure(figsize=(_WIDTH, 2.6), layout="constrained")
    panel = figure.subplots()
    stages = [stage for stage in _STAGE_COLORS if stage in told["spans"]]
    for row, stage in enumerate(stages):
        spans = told["spans"][stage]
        bars = [(start, max(end - start, _THINNEST * told["seconds"])) for start, end, _ in spans]
        panel.broken_barh(bars, (row - 0.36, 0.72), color=_STAGE_COLORS[stage], edgecolor="white", linewidth=0.4)
    panel.set_yticks(range(len(stages)), [_busy(stage, told) for stage in stages], fontsize=9)
    panel.invert_yaxis()
    panel.set_xlim(0, told["seconds"] * 1.01)
    panel.set_xlabel("seconds", fontsize=9)
    panel.tick_params(labelsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_title(
        f"{told['contender']}: when each stage was at work, {len(told['spans'][stages[0]])} blocks, one run",
        loc="left",
        fontsize=10,
        fontweight="bold",
    )
    return figure


def _busy(stage: str, told: dict[str, Any]) -> str:
    """The stage and the share of the time in which it was at work."""
    at, covered = 0.0, 0.0
    for start, end, _ in sorted(told["spans"][stage]):
        covered += max(0.0, end - max(start, at))
        at = max(at, end)
    return f"{stage} ({100 * covered / told['seconds']:.0f}% busy)"


def _place(report: Report) -> str:
    about = report["machine"]
    return f"{about['cpu']}, {about['cores']} cores · {report['model']} · median of {report['rounds']} rounds"


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=160, metadata=dict.fromkeys(_METADATA) if kind == "svg" else None)
    return buffer.getvalue()


def _svg(figure: Figure) -> str:
    """The drawing alone: inside a page an XML head has no place."""
    text = _saved(figure, "svg").decode()
    return text[text.index("<svg") :]


def page(report: Report, drawings: dict[str, str]) -> str:
    """One HTML page: pictures, tables, ratios, the machine and the command; it refers to nothing outside itself."""
    parts = ["<h1>vecfill bench pipeline</h1>", *(f"<figure>{drawing}</figure>" for drawing in drawings.values())]
    parts += [_table(words.title(report, group, lines), lines) for group, lines in words.by_group(report)]
    parts.append(f"<p>{html.escape(words.legend(report))}</p>")
    parts.append(_list("Ratios within the rounds", words.ratio_lines(report)))
    parts.append(_list("Contenders", [f"{line['name']}: {line['about']}" for line in report["contenders"]]))
    parts.append(_list("Machine", words.machine_lines(report)))
    parts.append(f"<h2>Again</h2><pre>{html.escape(report['command'])}</pre>")
    return _PAGE.replace("BODY", "\n".join(parts))


def _table(heading: str, lines: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in words.COLUMNS)
    rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in words.cells(line)) for line in lines)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<h2>{html.escape(heading)}</h2><table><tr>{head}</tr>{body}</table>"


def _list(heading: str, lines: list[str]) -> str:
    if not lines:
        return ""
    return f"<h2>{heading}</h2><ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>vecfill bench pipeline</title><style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; color: #222 }
figure { margin: 1em 0 } svg { max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: .3em .6em; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top }
th:first-child, td:first-child { text-align: left } h2 { font-size: 1.1em; margin-top: 1.6em }
pre { background: #f4f4f4; padding: .8em; overflow-x: auto }
</style></head><body>
BODY
</body></html>
"""
