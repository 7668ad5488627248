"""``vecfill search``."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import click

from vecfill.backfill.tracked_checks import recorded_model
from vecfill.cli.logs import log_to_stderr
from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.config.connection import DatabaseOptions
from vecfill.config.model import Model
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import QUEUE_SETTINGS, Settings
from vecfill.config.target import Target
from vecfill.vector_search import DEFAULT_LIMIT, Found
from vecfill.vector_search import search as find

log = logging.getLogger(__name__)

WRITTEN = ("text", "set", "dim", "zero_is_missing", *QUEUE_SETTINGS)
"""Settings of a target that only a run needs."""

MAX_CELL = 60
"""Characters of a value that the table shows; ``--json`` shows all."""


@click.command()
@click.argument("text")
@settings_options(options_of(DatabaseOptions, Target, Model, without=WRITTEN))
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=DEFAULT_LIMIT,
    show_default=True,
    metavar="N",
    help="Show the N nearest rows.",
)
@click.option("--show", default="", metavar="NAMES", help="Show these columns, such as title,company.")
@output_options
def search(text: str, config: Path | None, *, limit: int, show: str, output: Output, **flags: Any) -> None:
    r"""Find the rows nearest to a text.

    Embeds TEXT and shows the rows with the nearest vectors. --model must be the model that made those vectors; on a
    tracked target it may be left out, and another model is refused. Uses the
    column's HNSW or IVFFlat index and its distance; without an index it compares every row by cosine distance. The role
    needs only SELECT.

    \b
    vecfill search -d postgresql://localhost/app -t public.jobs -m sentence-transformers/all-MiniLM-L6-v2 \
      --show title,company 'someone who keeps routers running'
    vecfill search --config configs/cron.toml --where "status = 'open'" --json 'night shifts'
    """
    log_to_stderr(output)
    settings = Settings.load(flags, config)
    target, database = settings.of(Target), database_of(settings)
    model = settings.of(Model, **({} if settings.model else recorded_model(target, database)))
    names = tuple(name.strip() for name in show.split(",") if name.strip())
    found = find(target, model, text, database=database, limit=limit, show=names)
    if not found.hits:
        which = " that meets --where" if settings.where else ""
        log.warning(
            "no row of %s%s has a vector: `vecfill run` fills them", found.table, which, extra={"table": found.table}
        )
    if output.json:
        click.echo(json.dumps(_as_dict(found, names)))
    elif found.hits:
        _print(found, names)


def _as_dict(found: Found, names: tuple[str, ...]) -> dict[str, Any]:
    hits = [
        {
            "key": hit.key,
            "distance": hit.distance if math.isfinite(hit.distance) else None,
            "values": dict(zip(names, hit.values, strict=True)),
        }
        for hit in found.hits
    ]
    return {
        "table": found.table,
        "distance": found.distance,
        "index": found.index,
        "row_security": found.row_security,
        "hits": hits,
    }


def _print(found: Found, names: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    way = f"through index {found.index}" if found.index else "every row compared, no index used"
    table = Table()
    table.add_column(Text(f"{found.distance} distance"), justify="right", no_wrap=True)
    for name in ("key", *names):
        table.add_column(Text(name), overflow="fold")
    for hit in found.hits:
        table.add_row(f"{hit.distance:.4f}", *(Text(_cell(value)) for value in (hit.key, *hit.values)))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    click.echo(f"{found.table}, {way}")
    console.print(table)


def _cell(value: str | None) -> str:
    """The value on one line, cut to ``MAX_CELL``."""
    line = " ".join((value or "").split())
    return line if len(line) <= MAX_CELL else line[: MAX_CELL - 1] + "…"
