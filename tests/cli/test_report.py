"""The tables of a result in a narrow terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vecfill.cli.report import coverage_table
from vecfill.read.survey import Coverage


@pytest.mark.parametrize("columns", [80, 40])
def test_a_narrow_terminal_costs_no_digit(columns):
    one = Coverage(total=1_234_567, filled=1_000_567, missing=234_000, empty=0, estimated=False)
    shown = io.StringIO()
    Console(file=shown, width=columns).print(coverage_table({"after": one}, "public.jobs"))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    cells = zip(*(line.strip("│").split("│") for line in lines if line.startswith("│")), strict=True)
    counts = ["".join(part.strip() for part in cell) for cell in cells]
    assert counts == ["after", "1,234,567", "1,000,567", "234,000", "0", "81.05"]
