"""``vecfill watch``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from vecfill.cli.logs import log_to_stderr
from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.config.connection import DatabaseOptions
from vecfill.config.engine import EngineOptions
from vecfill.config.hooks import HookOptions
from vecfill.config.model import Model
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.run import RunOptions
from vecfill.config.settings import Settings
from vecfill.config.target import Target
from vecfill.config.watch import WatchOptions
from vecfill.watching.watch import watch as watch_targets
from vecfill.watching.watched import Watched

ONCE = ("limit", "max_seconds", "select", "audit", "index")
"""Settings of a single run, which a watch ignores in a file that both use."""


@click.command()
@settings_options(
    (
        *options_of(DatabaseOptions, Target, Model),
        *options_of(RunOptions, without=ONCE),
        *options_of(WatchOptions, HookOptions),
    )
)
@output_options
def watch(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Keep the vectors of tables up to date until stopped.

    Looks for work every --interval seconds and fills what it finds, with the model in memory. A tracked target (see
    `vecfill track`) is asked for its queue of changes; another for its missing rows, by a partial index over them, or
    less often by a scan.

    \b
    vecfill watch -d postgresql://localhost/app -t public.jobs --text '{title} at {company}' \
      -m sentence-transformers/all-MiniLM-L6-v2 --metrics 9187
    vecfill watch --config /etc/vecfill/vecfill.toml --log-format json

    It waits for a server that is away. While another program works on a tracked target it stands by, and takes over
    when that ends or its --lease is over. Every five minutes it also checks and surveys each target as `run` does.

    --on-end runs a command when a target's watch has ended, --on-fail when rows failed or a target has not been ready
    for a minute, at most once an hour, and when a watch ends by a fault. They get a JSON object on stdin, as of `run`.

    Exit codes: 129, 130, 143 stopped by a signal, batches in flight are committed; 2 usage or configuration error,
    nothing written; 1, 5 every target has a fault that lasts, or its API budget is spent (see the log).
    """
    log_to_stderr(output)  # also for what is wrong with the settings
    targets = Settings.load_all(flags, config)
    log_to_stderr(output, with_target=len(targets) > 1)
    watched = [_watched(settings, output) for settings in targets]
    result = watch_targets(*watched, options=targets[0].of(WatchOptions), signals=True)
    if output.json:
        click.echo(json.dumps(result.as_dict()))
    sys.exit(result.exit_code)


def _watched(settings: Settings, output: Output) -> Watched:
    settings.need("table", *(("text",) if settings.text_sql is None else ()))
    options = settings.of(RunOptions, engine=settings.of(EngineOptions, verbose=output.verbose))
    return Watched(
        target=settings.of(Target),
        model=settings.of(Model),
        database=database_of(settings),
        options=replace(options, limit=None, max_seconds=None, select=None, audit=False),
        interval=settings.of(WatchOptions).interval,
        hooks=settings.of(HookOptions),
    )
