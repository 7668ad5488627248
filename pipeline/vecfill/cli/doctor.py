"""``vecfill doctor``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.targets import for_each_target
from vecfill.config.connection import DatabaseOptions
from vecfill.config.doctor import DoctorOptions
from vecfill.config.model import Model
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import Settings
from vecfill.config.target import Target
from vecfill.diagnosis.examination import doctor as diagnose
from vecfill.diagnosis.finding import Diagnosis


@click.command()
@settings_options(options_of(DatabaseOptions, Target, Model, DoctorOptions))
@output_options
def doctor(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Examine a target: what is wrong, and what mends it.

    Looks at the server, the column, its indexes, triggers and storage, this role's rights, other sessions,
    replication, the ledger of a tracked target, and the application's own queue tables. Each finding is a problem,
    advice, or ok, with the reason why it matters and the statement that mends it; docs/doctor.md explains each.

    Works with few rights, and names what it could not check. Run it as the role that runs vecfill: it also checks that
    role's rights. Waits for no lock longer than half a second. Writes nothing: it measures an update on 10 rows in a
    transaction that it rolls back, and --no-measure skips that.

    \b
    vecfill doctor -d postgresql://localhost/app -t public.jobs
    vecfill doctor --config configs/cron.toml --json

    Exit codes: 0 no problem; 1 a problem; 2 usage or configuration error.
    """
    for_each_target(flags, config, output, _prepared, _print)


def _prepared(settings: Settings) -> Callable[[], Diagnosis]:
    target, options = settings.need("table").of(Target), settings.of(DoctorOptions)
    model = settings.of(Model) if settings.model is not None else None
    database = database_of(settings)
    return lambda: diagnose(target, model, database=database, options=options)


def _print(found: Diagnosis, _: Settings) -> None:
    from rich.console import Console

    from vecfill.cli.doctor_page import doctor_page

    Console(soft_wrap=True, highlight=False).print(doctor_page(found))
