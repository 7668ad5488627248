"""``vecfill plan``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.targets import for_each_target
from vecfill.config.connection import DatabaseOptions
from vecfill.config.engine import EngineOptions
from vecfill.config.model import Model
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.plan import PlanOptions
from vecfill.config.run import RunOptions
from vecfill.config.settings import Settings
from vecfill.config.target import Target
from vecfill.planning.plan import plan as plan_target
from vecfill.planning.record import RunPlan


@click.command()
@settings_options(options_of(DatabaseOptions, Target, Model, RunOptions, PlanOptions))
@output_options
def plan(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Show what a run would do: rows, texts, tokens, time and cost.

    Takes the options of `vecfill run`, selects the rows by the same code, and writes nothing: it registers no model,
    takes no lease, and leaves the queue of changes as it is. The role needs only SELECT.

    Rows are counted. Distinct texts, tokens and truncated rows are estimates from a sample of --sample rows. The rate
    is that of the last run in the ledger, or a guess, or with --measure the rate at which this machine embeds the
    sample. The cost at the APIs of the price table follows from the tokens.

    If a run would not start, the plan says why, in the words of the run.

    Plans every [[target]] of a file; --table selects one.

    \b
    vecfill plan -d postgresql://localhost/app -t public.jobs --text '{title} at {company}' \
      -m sentence-transformers/all-MiniLM-L6-v2 --measure
    vecfill plan --config configs/cron.toml --json

    Exit codes: 0 a run would start, or has nothing to do; else the code with which it would end: 2 it lacks a right,
    needs --yes, or something else is to be corrected; 4 another run works on this tracked target; 1 the plan failed.
    """
    kept: dict[str, Any] = {}
    for_each_target(flags, config, output, lambda settings: _prepared(settings, output, kept), _print)


def _prepared(settings: Settings, output: Output, kept: dict[str, Any]) -> Callable[[], RunPlan]:
    target = settings.need("table", *(("text",) if settings.text_sql is None else ())).of(Target)
    model, database, estimates = settings.of(Model), database_of(settings), settings.of(PlanOptions)
    options = settings.of(RunOptions, engine=settings.of(EngineOptions, verbose=output.verbose))
    return lambda: plan_target(target, model, database=database, options=options, estimates=estimates, kept=kept)


def _print(found: RunPlan, _: Settings) -> None:
    from vecfill.cli.plan_page import print_plan

    print_plan(found)
