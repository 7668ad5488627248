"""The report as files and on the terminal, and the dry run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vecfill.bench.api import amounts, judged, tables, words
from vecfill.bench.api.drawings import Drawing, drawings
from vecfill.bench.api.tables import Report
from vecfill.bench.render import render, write_files
from vecfill.bench.report import machine_lines, show, table

TITLE = "Local model or embedding API?"

FILTERS = {name: getattr(amounts, name) for name in ("number", "percent", "seconds", "usd")}


def write_report(report: Report, folder: Path) -> list[Path]:
    """Writes ``api.json``, ``api.md`` and ``api.html``; returns the files.

    Raises:
        ConfigError: the folder cannot be written.
    """
    contents: dict[str, str | bytes] = {
        "api.json": json.dumps(report, indent=2, allow_nan=False),
        "api.md": markdown(report),
        "api.html": page(report, drawings(report)),
    }
    return write_files(folder, contents)


def markdown(report: Report) -> str:
    """The whole report as Markdown: the page's words and tables, without the drawings."""
    return render("api.md.j2", FILTERS, **_values(report))


def page(report: Report, drawn: list[Drawing]) -> str:
    """The report as one HTML page that loads nothing else."""
    return render("api.html.j2", FILTERS, drawings=drawn, **_values(report))


def sentences(part: str, report: Report) -> list[str]:
    """A part of the report in words: ``setting``, ``verdict``, ``quality``, ``method`` or ``caveats``."""
    text = render(f"api_{part}.txt.j2", FILTERS, report=report, words=words, judged=judged)
    return text.splitlines()


def _values(report: Report) -> dict[str, Any]:
    """What both templates show."""
    parts = {part: sentences(part, report) for part in ("verdict", "quality", "method", "caveats")}
    (setting,) = sentences("setting", report)
    about = {"title": TITLE, "setting": setting, "machine": machine_lines(report)}
    return {"report": report, "words": words, "tables": tables, **about, **parts}


def print_report(report: Report) -> None:
    """Prints the report."""
    show([], [*sentences("setting", report), *sentences("verdict", report)], width=160)
    parts = (
        ("measured", tables.SIDES_HEAD, tables.measured_lines(report)),
        ("measured: the API's requests in a round", tables.REQUEST_HEAD, tables.request_lines(report)),
        ("measured: quality", tables.QUALITY_HEAD, tables.quality_lines(report)),
    )
    show([table(*part) for part in parts if part[-1]], sentences("quality", report), width=160)
    prices = table("modelled: the same rows through other APIs", tables.PRICE_HEAD, tables.price_lines(report))
    show([prices], report["modelled"]["remarks"], width=160)


def print_dry_run(found: dict[str, Any]) -> None:
    """Prints the cost of the rows and of the comparison, and the remarks."""
    show([], render("api_dry_run.txt.j2", FILTERS, found=found).splitlines(), width=160)
