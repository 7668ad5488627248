"""``vecfill bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vecfill.cli.bench_api import api
from vecfill.cli.bench_replace import replace
from vecfill.cli.bench_size import size
from vecfill.cli.logs import log_to_stderr
from vecfill.cli.measuring import (
    DEFAULT_MODEL,
    command_again,
    count_option,
    output_options,
    print_found,
    progress_to_stderr,
    report_option,
    rounds_option,
)
from vecfill.cli.options import database_of, settings_options
from vecfill.config.connection import DatabaseOptions
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import OPTIONS, Settings
from vecfill.config.target import Target
from vecfill.encode.model.model_location import portable
from vecfill.postgres.session import reachable

if TYPE_CHECKING:
    from vecfill.bench.corpus import Corpus
    from vecfill.postgres.database import Database


@click.group()
def bench() -> None:
    r"""Measure vecfill against the alternatives.

    \b
    Examples:
      vecfill bench pipeline --database embedded
      vecfill bench pipeline -d postgresql://localhost/app -t public.jobs --text '{title} at {company}' --report out
      vecfill bench write --database embedded
      vecfill bench track --database embedded
      vecfill bench replace --database embedded
      vecfill bench api --api openai:text-embedding-3-small --dry-run
      vecfill bench size gpu-check.json writing.json --devices 1,2,4,8 --usd-per-hour 3
    """


bench.add_command(api)
bench.add_command(replace)
bench.add_command(size)


@bench.command()
@settings_options([*options_of(DatabaseOptions), *map(OPTIONS.__getitem__, ("table", "text", "model"))])
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read the texts from this file, one per line.",
)
@click.option(
    "--corpus",
    type=click.Choice(["listings", "mixed"]),
    help="Use the built-in job listings, or texts of 8 to 512 tokens made from them.  [default: listings]",
)
@count_option("--rows", 2_048, "Take N texts.")
@rounds_option("Measure every contender N times, in rotated order.")
@click.option("--only", metavar="NAMES", help="Measure only these contenders, such as 'encode,inline'.  [default: all]")
@report_option("Write plots (PNG), an HTML page and the JSON to this folder.")
@output_options
def pipeline(
    config: Path | None,
    *,
    file: Path | None,
    corpus: str | None,
    rows: int,
    rounds: int,
    only: str | None,
    as_json: bool,
    report: Path | None,
    quiet: bool,
    **flags: Any,
) -> None:
    r"""Compare vecfill with other ways from text to vectors in PostgreSQL.

    Each round measures these contenders, each in its own process: SentenceTransformer.encode alone; the plain Ray Data
    recipe; vecfill in-process, vecfill on Ray, and its encoder alone. With a model that costs nothing it also measures
    the writer, both engines, and a bare COPY and join. Texts come from --file, --corpus, or the rows of --table without
    a vector; the table is only read. vecfill writes to its own schema and drops it at the end. Needs the extra `bench`.

    \b
    vecfill bench pipeline --database embedded
    vecfill bench pipeline --database embedded --corpus mixed --rows 512 --report out
    vecfill bench pipeline -d postgresql://localhost/app -t public.jobs --text '{title} at {company}' --json
    vecfill bench pipeline --database embedded --only 'writer alone,hash inline' --rows 5000

    Exit codes: 0 measured; 1 a contender failed; 2 usage or configuration.
    """
    from vecfill.bench.pipeline import Plan, measure
    from vecfill.bench.plots import write_report
    from vecfill.bench.render import check_folder, check_installed
    from vecfill.bench.report import print_pipeline
    from vecfill.config.model import Model

    log_to_stderr(Output(quiet=quiet))
    settings = Settings.load(flags, config)
    database = database_of(settings)
    check_installed("jinja2", "psutil", *(["matplotlib"] if report else []))
    if report:
        check_folder(report)
    plan = Plan(
        corpus=_corpus(settings, database, file, corpus, rows=rows, table=flags["table"]),
        model=portable(Model(name=settings.model or DEFAULT_MODEL)),
        rounds=rounds,
        only=tuple(name.strip() for name in (only or "").split(",") if name.strip()),
    )
    found = measure(plan, database, progress_to_stderr(quiet=quiet))
    found["command"] = command_again(settings, database)
    if report:
        for path in write_report(found, report):
            click.echo(f"written: {path}", err=True)
    print_found(found, print_pipeline, as_json=as_json, quiet=quiet)


@bench.command()
@settings_options(options_of(DatabaseOptions))
@count_option("--rows", 40_000, "Write N rows.")
@count_option("--dim", 384, "Write vectors of N dimensions.", most=16_000)
@count_option("--batch", 4_096, "Pass blocks of N rows to the writers; the default is that of an in-process run.")
@count_option("--writers", 4, "Measure N parallel writers, in addition to one.", least=2)
@rounds_option("Measure each way N times, in rotated order.")
@output_options
def write(
    config: Path | None,
    *,
    rows: int,
    dim: int,
    batch: int,
    writers: int,
    rounds: int,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    r"""Compare ways to write vectors to your server.

    Each round measures one UPDATE per row, executemany, a bare COPY and join (which accounts for no row), and vecfill's
    write stage with one writer and with several. To measure a distant server, run this where your workers will run.
    vecfill writes to its own schema and drops it at the end. Needs the extra `bench`.

    \b
    vecfill bench write --database embedded
    vecfill bench write -d postgresql://localhost/app --rows 100000 --dim 768 --json

    Exit codes: 0 measured; 1 a measurement failed; 2 usage or configuration.
    """
    from vecfill.bench.render import check_installed
    from vecfill.bench.report import print_write
    from vecfill.bench.write import Plan, measure

    log_to_stderr(Output(quiet=quiet))
    settings = Settings.load(flags, config)
    database = database_of(settings)
    check_installed("jinja2", "psutil")
    plan = Plan(rows=rows, dim=dim, batch=batch, writers=writers, rounds=rounds)
    found = measure(plan, database, progress_to_stderr(quiet=quiet))
    found["command"] = command_again(settings, database)
    print_found(found, print_write, as_json=as_json, quiet=quiet)


@bench.command()
@settings_options(options_of(DatabaseOptions))
@count_option("--rows", 40_000, "Edit N rows at once.")
@rounds_option("Measure each edit N times, with and without triggers in turn.")
@output_options
def track(config: Path | None, *, rows: int, rounds: int, as_json: bool, quiet: bool, **flags: Any) -> None:
    r"""Measure what tracking costs the application that edits the table.

    Each round edits a tracked table and its twin without triggers: single rows, another column, the text, INSERT, COPY.
    vecfill writes to its own schemas and drops them at the end. Needs the extra `bench`.

    \b
    vecfill bench track --database embedded

    Exit codes: 0 measured; 1 a measurement failed; 2 usage or configuration.
    """
    from vecfill.bench.render import check_installed
    from vecfill.bench.report import print_track
    from vecfill.bench.track import Plan, measure

    log_to_stderr(Output(quiet=quiet))
    settings = Settings.load(flags, config)
    database = database_of(settings)
    check_installed("jinja2", "psutil")
    found = measure(Plan(rows=rows, rounds=rounds), database, progress_to_stderr(quiet=quiet))
    found["command"] = command_again(settings, database)
    print_found(found, print_track, as_json=as_json, quiet=quiet)


def _corpus(
    settings: Settings, database: Database, file: Path | None, name: str | None, *, rows: int, table: str | None
) -> Corpus:
    """The texts of the source given, by default the listings."""
    from vecfill.bench import corpus

    given = [flag for flag, value in {"--file": file, "--corpus": name, "--table": table}.items() if value]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} name texts: give one of them")
    if file:
        return corpus.from_file(file, rows)
    if not name and settings.table:
        return corpus.from_table(reachable(database), settings.need("table", "text").of(Target), rows)
    return corpus.mixed(rows) if name == "mixed" else corpus.from_listings(rows)
