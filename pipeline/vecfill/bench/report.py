"""The report as a person reads it: a table, the ratios, and the machine, in words that the pictures use too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

Report = dict[str, Any]

GROUPS = {
    "model": "text to vectors",
    "duplicates": "90% of the texts occur before",
    "ceiling": "the database side, a model that costs nothing",
}

COLUMNS = (
    "contender",
    "rows/s",
    "× yardstick",
    "tokens/s",
    "padding",
    "of matrix rate",
    "seconds by stage",
    "peak MiB",
    "start-up s",
)


def cells(line: dict[str, Any]) -> list[str]:
    """A contender's line, cell by cell as ``COLUMNS`` names them; a dash where there is nothing to tell."""
    share = line["matrix_share"]
    return [
        line["name"] + (f" ({line['batch']})" if line["name"] == "encode best" else ""),
        number(line["rows_per_s"]),
        times(line["ratio"]) if line["name"] != line["against"] else "1",
        number(line["tokens_per_s"]),
        _percent(line["padding"]),
        "–" if share is None else f"{_percent(share)} ({number(line['gflops'])} GFLOP/s)",
        ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in line["stage_seconds"].items()),
        number(line["peak_bytes"] / 2**20),
        "–" if line["startup_s"] is None else f"{line['startup_s']:.1f}",
    ]


def times(found: dict[str, float] | None) -> str:
    """A ratio with its least and greatest, such as ``1.42 (1.38–1.45)``."""
    return "–" if found is None else f"{found['median']:.2f} ({found['least']:.2f}–{found['greatest']:.2f})"


def number(value: float | None) -> str:
    """A whole number with commas; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}%"


def by_group(report: Report) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The lines of each group that took part, with the group's name."""
    for group in GROUPS:
        lines = [line for line in report["contenders"] if line["group"] == group]
        if lines:
            yield group, lines


def title(report: Report, group: str, lines: list[dict[str, Any]]) -> str:
    """A group's heading: what, how many rows, against whom."""
    named = GROUPS[group]
    return f"{named}: {lines[0]['rows']:,} rows of {report['corpus']['name']}, × {lines[0]['against']}"


def tables(report: Report) -> Iterator[Table]:
    """A rich table a group."""
    for group, lines in by_group(report):
        table = Table(title=title(report, group, lines), title_justify="left")
        for number, column in enumerate(COLUMNS):
            table.add_column(column, justify="left" if number in (0, COLUMNS.index("seconds by stage")) else "right")
        for line in lines:
            table.add_row(*cells(line))
        yield table


def ratio_lines(report: Report) -> list[str]:
    """The comparisons that are made beside the yardsticks."""
    return [f"{one['contender']} / {one['against']}: {times(one)}" for one in report["ratios"]]


def computer_lines(report: Report) -> list[str]:
    """Where it was measured."""
    about = report["machine"]
    memory, flags = f"{about['memory_gib']} GiB", " ".join(about["flags"])
    return [
        f"{about['cpu']}, {about['cores']} cores ({flags}), {memory}, load {about['load']} at the start",
        f"{about['system']}, Python {about['python']}, PostgreSQL {about['postgresql']}, "
        + ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    ]


def machine_lines(report: Report) -> list[str]:
    """Where it was measured, and on what."""
    device, lines = report["device"], computer_lines(report)
    if device:
        rates = ", ".join(f"{flops / 1e9:,.0f} GFLOP/s {dtype}" for dtype, flops in device["flops"].items())
        where = device["device_name"] or f"CPU, {device['threads']} threads"
        lines.append(f"{where}: matrix products at the model's shapes {rates}")
        low, middle, high = device["tokens_p5_p50_p95"]
        parameters, mean = device["parameters"] / 1e6, device["tokens"] / report["corpus"]["rows"]
        lines.append(
            f"{report['model']}: {parameters:.1f} M parameters without embedding tables; texts of {mean:.1f} tokens on "
            f"average after truncation, median {middle}, 5% to 95% {low} to {high}"
        )
    return lines


def legend(report: Report) -> str:
    """How to read the figures."""
    return (
        f"Median of {report['rounds']} rounds in one run, everybody in each, in rotated order. Rows/s of the engines "
        "are warm: from the end of the first block to the end of the last. A ratio is the median of the rounds' "
        "ratios, with least and greatest. Share of matrix rate: 2 FLOP × parameters × tokens/s over the measured rate. "
        "Peak: of the process tree, what is shared counted once."
    )
