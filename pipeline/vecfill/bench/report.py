"""The reports of ``bench pipeline`` and ``bench write`` as tables and lines, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from vecfill.bench.render import render

Report = dict[str, Any]

GROUPS = {
    "model": "text to vectors",
    "duplicates": "90% of the texts occur before",
    "cold": "from nothing, process start included",
    "ceiling": "the database side, a model that costs nothing",
}

STAGE_COLUMN = "seconds by stage"
COLUMNS = (
    *("contender", "rows/s", "× yardstick", "tokens/s", "padding", "of matrix rate", STAGE_COLUMN, "peak MiB"),
    "start-up s",
)
WAY_COLUMNS = ("way", "what it does", "rows", "rows/s", "least–greatest", "WAL bytes a row")


def cells(line: Report) -> list[str]:
    """A contender's line, cell by cell as ``COLUMNS`` names them; a dash where there is no figure."""
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


def way_cells(line: Report) -> list[str]:
    """A way's line, cell by cell as ``WAY_COLUMNS`` names them."""
    spread = f"{number(min(line['rounds']))}–{number(max(line['rounds']))}"
    rates = [number(line["rows"]), number(line["rows_per_s"]), spread, number(line["wal_bytes_per_row"])]
    return [line["name"], line["about"], *rates]


def times(found: dict[str, float] | None) -> str:
    """A ratio with its least and greatest, such as ``1.42 (1.38–1.45)``."""
    return "–" if found is None else f"{found['median']:.2f} ({found['least']:.2f}–{found['greatest']:.2f})"


def number(value: float | None) -> str:
    """A whole number with commas; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}%"


def by_group(report: Report) -> Iterator[tuple[str, list[Report]]]:
    """The lines of each group that took part, with the group's heading: what, how many rows, against whom."""
    for group, named in GROUPS.items():
        if lines := [line for line in report["contenders"] if line["group"] == group]:
            yield f"{named}: {lines[0]['rows']:,} rows of {report['corpus']['name']}, × {lines[0]['against']}", lines


def ratio_lines(report: Report) -> list[str]:
    """The comparisons beside the yardsticks."""
    return [f"{one['contender']} / {one['against']}: {times(one)}" for one in report["ratios"]]


def machine_lines(report: Report) -> list[str]:
    """Where it was measured, and on which device."""
    return render("machine.txt.j2", {"number": number}, report=report).splitlines()


def legend(verb: str, report: Report) -> str:
    """How to read the figures of ``pipeline`` or ``write``."""
    return render(f"{verb}_legend.txt.j2", report=report).strip()


def print_pipeline(report: Report) -> None:
    """Prints the report of ``bench pipeline``."""
    tables = [table(title, COLUMNS, map(cells, lines), left=[STAGE_COLUMN]) for title, lines in by_group(report)]
    show(tables, [*ratio_lines(report), *machine_lines(report), legend("pipeline", report)], width=200)


def print_write(report: Report) -> None:
    """Prints the report of ``bench write``."""
    title = f"{report['rows']:,} rows of {report['dim']} dimensions, blocks of {report['batch']:,}"
    title += f", {report['writers']} writers where there are several"
    ways = table(title, WAY_COLUMNS, map(way_cells, report["ways"]), left=WAY_COLUMNS[:2])
    show([ways], [*ratio_lines(report), *machine_lines(report), legend("write", report)], width=200)


def print_track(report: Report) -> None:
    """Prints the report of ``bench track``."""
    head = ("edit", "µs a row, untracked", "µs a row, tracked", "µs more", "ratio")
    lines = [
        [one["name"], *(f"{one[name]:,.2f}" for name in ("plain_us", "tracked_us", "more_us", "ratio"))]
        for one in report["edits"]
    ]
    title = f"{report['rows']:,} rows, medians of {report['rounds']} rounds"
    size = f"the ledger takes {report['ledger_bytes_per_row']:,.0f} bytes a row, with its index"
    show([table(title, head, lines)], [size, *machine_lines(report)], width=120)


def print_replace(report: Report) -> None:
    """Prints the report of ``bench replace``."""
    head = ("way", "what it does", "s", "for the index", "WAL", "before", "after", "longest read", "longest write")
    lines = [
        [
            *(one["name"], one["about"], number(one["seconds"]), f"{one['index_s']:,.0f} s"),
            *(f"{one[name] / 1e6:,.0f} MB" for name in ("wal_bytes", "bytes_before", "bytes_after")),
            *(f"{1000 * one[name]:,.0f} ms" for name in ("longest_read_s", "longest_write_s")),
        ]
        for one in report["ways"]
    ]
    told = [
        f"forecast of {one['name']}: {one['forecast_s']:,.0f} s through the index, {one['forecast_build_s']:,.0f} s to "
        "build it"
        for one in report["ways"]
        if one.get("forecast_s")
    ]
    ratio = [f"in place is {report['ratio']:.1f} times as fast as live"] if report["ratio"] else []
    title = f"{report['rows']:,} rows of {report['dim']} dimensions with an HNSW index"
    show([table(title, head, lines, left=head[:2])], [*ratio, *told, *machine_lines(report)], width=200)


def table(title: str, head: Sequence[str], lines: Iterable[Sequence[str]], *, left: Sequence[str] = ()) -> Table:
    """A table for the terminal; the first column and ``left`` are aligned left, the others right."""
    found = Table(title=title, title_justify="left")
    for column in head:
        found.add_column(column, justify="left" if column in (head[0], *left) else "right")
    for line in lines:
        found.add_row(*line)
    return found


def show(tables: Iterable[Table], lines: Iterable[str], *, width: int) -> None:
    """Prints tables and lines; ``width`` characters wide where stdout is not a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = width
    for one in tables:
        console.print(one)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
