"""``vecfill bench replace``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vecfill.cli.logs import log_to_stderr
from vecfill.cli.measuring import command_again, count_option, output_options, print_found, progress_to_stderr
from vecfill.cli.options import database_of, settings_options
from vecfill.config.connection import DatabaseOptions
from vecfill.config.migrate import IndexOptions
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import Settings


@click.command()
@settings_options(options_of(DatabaseOptions, IndexOptions))
@count_option("--rows", 32_322, "Replace the vectors of N rows.")
@count_option("--dim", 384, "Use vectors of N dimensions.", most=2_000)
@click.option("--only", metavar="NAMES", help="Measure only these ways, such as 'live,in place'.  [default: all]")
@output_options
def replace(
    config: Path | None, *, rows: int, dim: int, only: str | None, as_json: bool, quiet: bool, **flags: Any
) -> None:
    r"""Compare the ways to a new model's vectors in a table with an HNSW index.

    Measures a run that updates through the live index, one with --index rebuild, a migration to a column beside the
    old one, and a fill of an empty column with the index built afterwards: time, WAL, size, and the longest statement
    of another session that reads and updates single rows meanwhile. The new vectors come from a model that costs
    nothing. vecfill writes to its own schemas and drops them at the end. Needs the extra `bench`.

    \b
    vecfill bench replace --database embedded --only 'live,in place'
    vecfill bench replace --database embedded --rows 100000 --only 'in place,beside,fresh' --index-memory 1GB

    Exit codes: 0 measured; 1 a measurement failed; 2 usage or configuration.
    """
    from vecfill.bench.render import check_installed
    from vecfill.bench.replace import Plan, measure
    from vecfill.bench.report import print_replace

    log_to_stderr(Output(quiet=True))
    settings = Settings.load(flags, config)
    database = database_of(settings)
    check_installed("jinja2", "psutil")
    names = tuple(name.strip() for name in (only or "").split(",") if name.strip())
    plan = Plan(rows=rows, dim=dim, only=names, indexes=settings.of(IndexOptions))
    found = measure(plan, database, progress_to_stderr(quiet=quiet))
    found["command"] = command_again(settings, database)
    print_found(found, print_replace, as_json=as_json, quiet=quiet)
