"""The write benchmark's report as a person reads it."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from vecfill.bench.report import number

COLUMNS = ("way", "what it does", "rows", "rows/s", "least–greatest", "WAL bytes a row")


def cells(line: dict[str, Any]) -> list[str]:
    """A way's line, cell by cell as ``COLUMNS`` names them."""
    spread = f"{number(min(line['rounds']))}–{number(max(line['rounds']))}"
    rates = [number(line["rows"]), number(line["rows_per_s"]), spread, number(line["wal_bytes_per_row"])]
    return [line["name"], line["about"], *rates]


def table(report: dict[str, Any]) -> Table:
    """One row a way."""
    title = f"{report['rows']:,} rows of {report['dim']} dimensions, blocks of {report['batch']:,}"
    found = Table(title=f"{title}, {report['writers']} writers where there are several", title_justify="left")
    for position, column in enumerate(COLUMNS):
        found.add_column(column, justify="left" if position < COLUMNS.index("rows") else "right")
    for line in report["ways"]:
        found.add_row(*cells(line))
    return found


def legend(report: dict[str, Any]) -> str:
    """How to read the figures."""
    return (
        f"Median of {report['rounds']} rounds in one run, every way in each, in rotated order, each round on a fresh "
        "table. A ratio is the median of the rounds' ratios, with least and greatest. An UPDATE a row is measured on "
        "fewer rows, for its rate. WAL is the whole server's meanwhile."
    )
