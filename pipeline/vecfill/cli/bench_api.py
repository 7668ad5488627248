"""``vecfill bench api``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vecfill.cli.logs import log_to_stderr
from vecfill.cli.measuring import (
    DEFAULT_MODEL,
    F,
    command_again,
    count_option,
    output_options,
    print_found,
    progress_to_stderr,
    report_option,
    rounds_option,
)
from vecfill.cli.options import database_of, settings_options
from vecfill.config.api import ApiOptions
from vecfill.config.connection import DatabaseOptions
from vecfill.config.model import Model
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import QUEUE_SETTINGS, Settings
from vecfill.config.target import Target
from vecfill.encode.model.model_location import portable
from vecfill.postgres.session import reachable

if TYPE_CHECKING:
    from vecfill.bench.api.plan import Money
    from vecfill.bench.corpus import Corpus
NOT_OFFERED = (
    *("set", "dim", "zero_is_missing", *QUEUE_SETTINGS),
    *("prompt_name", "max_tokens", "trust_remote_code"),
)
"""Settings of a target and a model that a comparison does not use."""


def _amount(flag: str, default: float, help_text: str) -> Callable[[F], F]:
    """Adds an amount of 0 or more."""
    return click.option(flag, type=click.FloatRange(min=0), default=default, show_default=True, help=help_text)


@click.command()
@settings_options(options_of(DatabaseOptions, Target, Model, without=NOT_OFFERED))
@click.option("--api", "api_name", required=True, metavar="openai:NAME", help="Compare with this API model.")
@click.option(
    "--label",
    metavar="NAME",
    help="Judge neighbours by this column: rows with the same value count as relevant to each other.",
)
@count_option("--rows", 2_048, "Take N rows.", least=2)
@rounds_option("Fill N times on each side, alternating; you pay the API for each.")
@click.option("--dry-run", is_flag=True, help="Print the cost and send nothing to the API.")
@click.option("--no-retrieval", is_flag=True, help="Skip the built-in retrieval set.")
@click.option("--prices", type=click.Path(path_type=Path, dir_okay=False), help="Read the price table from this file.")
@click.option("--price-as", metavar="NAME", help="Use the price and limits of this model in the price table.")
@click.option(
    "--machine",
    default="cloud-2-vcpu",
    show_default=True,
    metavar="NAME",
    help="Use the price of this machine in the price table.",
)
@_amount("--setup-usd", 100.0, "Add this one-time cost of setting up the local side.")
@_amount("--standing-usd", 0.0, "Add this monthly cost of the local side while it is idle.")
@_amount("--growth", 0.0, "Assume this many new or changed rows per month.")
@_amount("--months", 12.0, "Compare costs over this many months.")
@report_option("Write api.html, api.md and api.json to this folder.")
@output_options
def api(
    config: Path | None,
    *,
    api_name: str,
    label: str | None,
    rows: int,
    rounds: int,
    dry_run: bool,
    no_retrieval: bool,
    as_json: bool,
    report: Path | None,
    quiet: bool,
    **flags: Any,
) -> None:
    r"""Compare the local model with an embedding API on the same rows, database to database.

    Rows come from --table, which is only read, or are built-in job listings. Both sides fill scratch tables, which are
    dropped at the end. It measures rates, latencies and requests, and how well the nearest neighbours agree between the
    sides and with --label. From these it models cost and time at any size, and the size from which each side is cheaper
    or faster. The key comes from VECFILL_API_KEY, OPENAI_API_KEY or --api-key-command. Needs the extra `bench`.

    \b
    vecfill bench api --api openai:text-embedding-3-small --dry-run
    vecfill bench api -d postgresql://localhost/app -t public.jobs --text '{title} at {company}' --label department \
      --api openai:text-embedding-3-small --max-cost 0.50 --report out
    vecfill bench api --database embedded --api openai:all-MiniLM-L6-v2 --base-url http://127.0.0.1:7997 \
      --price-as text-embedding-3-small --report out

    Exit codes: 0 measured; 1 a side failed; 2 usage or configuration; 5 --max-requests or --max-cost is too low.
    """
    from vecfill.bench.api import output
    from vecfill.bench.api.compare import measure
    from vecfill.bench.api.judged import build
    from vecfill.bench.api.plan import Plan, priced
    from vecfill.bench.render import check_folder, check_installed

    log_to_stderr(Output(quiet=quiet))
    own = {name: flags.pop(name) for name in ("prices", "price_as", "machine", "setup_usd", "standing_usd")}
    own |= {name: flags.pop(name) for name in ("growth", "months")}
    settings = Settings.load(flags, config)
    local, remote = _sides(settings, api_name)
    plan = Plan(
        corpus=_corpus(settings, rows, label),
        local=local,
        api=remote,
        rounds=rounds,
        money=_money(remote, **own),
        retrieval=None if no_retrieval else build(),
    )
    if dry_run:
        print_found(priced(plan), output.print_dry_run, as_json=as_json, quiet=quiet)
        return
    check_installed("jinja2", "psutil", *(["matplotlib"] if report else []))
    if report:
        check_folder(report)
    database = database_of(settings)
    plan = replace(plan, local=portable(local), api=portable(remote))
    found = measure(plan, database, progress_to_stderr(quiet=quiet))
    found["command"] = command_again(settings, database)
    print_found(found, output.print_report, as_json=as_json, quiet=quiet)
    if report:
        for path in output.write_report(found, report):
            click.echo(f"written: {path}", err=True)


def _sides(settings: Settings, api_name: str) -> tuple[Model, Model]:
    if not api_name.startswith("openai:"):
        raise click.UsageError(f"--api {api_name} is no API: write openai:NAME, such as openai:text-embedding-3-small")
    local = settings.of(
        Model,
        name=settings.model or DEFAULT_MODEL,
        prompt_name=None,
        max_tokens=None,
        trust_remote_code=False,
        api=ApiOptions(),
    )
    if local.is_api:
        raise click.UsageError(f"--model {local.name} is an API: name a local model, and the API by --api")
    return local, Model(name=api_name, api=settings.of(ApiOptions))


def _corpus(settings: Settings, rows: int, label: str | None) -> Corpus:
    """The rows of the table if one is named, else the listings."""
    from vecfill.bench.corpus import labelled_listings, labelled_table

    if settings.table:
        return labelled_table(reachable(database_of(settings)), settings.need("table", "text").of(Target), rows, label)
    if label:
        raise click.UsageError(f"--label {label} names a column of --table, which is missing")
    return labelled_listings(rows)


def _money(
    remote: Model,
    *,
    prices: Path | None,
    price_as: str | None,
    machine: str,
    setup_usd: float,
    standing_usd: float,
    growth: float,
    months: float,
) -> Money:
    from vecfill.bench.api.plan import Money
    from vecfill.encode.api.prices import load
    from vecfill.encode.api.terms import own_price

    table = load(prices)
    own = table.find(remote.api_name, remote.api.url)
    price = table.named(price_as) if price_as else own
    return Money(
        prices=table,
        price=own_price(remote, price),
        borrowed=price_as is not None and price != own,
        machine=table.machine_named(machine),
        setup_usd=setup_usd,
        standing_usd=standing_usd,
        growth=growth,
        months=months,
    )
