"""``vecfill bench size``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vecfill.cli.measuring import output_options, print_found
from vecfill.errors import ConfigError

_WHOLE_HOURS = 10
"""Hours from which on minutes do not matter."""

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("speeds", type=_FILE)
@click.argument("writing", type=_FILE)
@click.option("--devices", default="1,2,4,8", show_default=True, metavar="LIST", help="Derive for N GPUs or machines.")
@click.option(
    "--cores",
    type=click.IntRange(1),
    metavar="N",
    help="Assume N cores that tokenize.  [default: as many as this machine has]",
)
@click.option(
    "--wal-mb-per-s",
    type=click.FloatRange(0, min_open=True),
    metavar="MB",
    help="Assume that disk and replicas take so much WAL.  [default: no limit]",
)
@click.option(
    "--usd-per-hour",
    type=click.FloatRange(0),
    metavar="USD",
    help="Tell the money, too, at this price of a device with its machine.",
)
@output_options
def size(
    speeds: Path,
    writing: Path,
    *,
    devices: str,
    cores: int | None,
    wal_mb_per_s: float | None,
    usd_per_hour: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    r"""Tell how long tables of a million to a billion rows take, and what limits it.

    SPEEDS is gpu-check.json of scripts/gpu-check, or the output of `vecfill bench pipeline --json`; WRITING is the
    output of `vecfill bench write --json`. Prints Markdown with two parts: what these measured, and what follows from
    it. Nothing is measured here.

    \b
    vecfill bench pipeline --database embedded --only 'encoder alone' --json > speeds.json
    vecfill bench write --database embedded --json > writing.json
    vecfill bench size speeds.json writing.json --devices 1,4,16 --usd-per-hour 0.1

    Exit codes: 0 told; 2 usage, or a file that is no such report.
    """
    from vecfill.bench.render import check_installed
    from vecfill.bench.sizing import Machine, as_report, speeds_of, writing_of

    check_installed("jinja2")
    machine = Machine(cores=cores or os.cpu_count() or 1, wal_mb_per_s=wal_mb_per_s, usd_per_hour=usd_per_hour)
    found = as_report(speeds_of(_read(speeds)), writing_of(_read(writing)), _counts(devices), machine)
    print_found(found, _print, as_json=as_json, quiet=quiet)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}: name a report") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON ({error}): name a report that --json printed") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no JSON object: name a report that --json printed")
    return found


def _counts(devices: str) -> list[int]:
    words = [word.strip() for word in devices.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise ConfigError(f"--devices is {devices!r}: give whole numbers above 0 such as 1,4")
    return [int(word) for word in words]


def _print(found: dict[str, Any]) -> None:
    from vecfill.bench.render import render
    from vecfill.bench.report import number

    filters: dict[str, Callable[..., str]] = {"number": number, "rows": _rows, "hours": _hours, "money": _money}
    click.echo(render("size.md.j2", filters, found=found), nl=False)


def _rows(rows: int) -> str:
    return f"{rows:,} rows, h"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= _WHOLE_HOURS else f"{hours:.2g}"


def _money(usd: float | None) -> str:
    return "–" if usd is None else f"{usd:,.2f}"
