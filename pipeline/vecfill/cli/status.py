"""``vecfill status``."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import click

from vecfill.cli.logs import log_to_stderr
from vecfill.cli.options import database_of, output_options, settings_options
from vecfill.cli.targets import Failed, as_dict, carry_out, worst
from vecfill.config.adjustments import parse_adjustments
from vecfill.config.connection import DatabaseOptions
from vecfill.config.options import options_of
from vecfill.config.output import Output
from vecfill.config.settings import Settings
from vecfill.config.status import StatusOptions
from vecfill.config.target import Target
from vecfill.table_status import Status, Watch

log = logging.getLogger(__name__)

AGAIN_S = 2.0
"""Pause of ``--watch``."""


@click.command()
@settings_options(options_of(DatabaseOptions, Target, StatusOptions, without=("set",)))
@output_options
def status(config: Path | None, output: Output, **flags: Any) -> None:
    r"""Count the rows with and without a vector.

    Counts rows with a vector, rows without one, and rows with nothing to embed, exactly as `vecfill run` sees them.
    Without --text, rows with nothing to embed count as missing. The role needs only SELECT. If a run would not start,
    such as without a key or a privilege, status says why.

    A tracked target needs no --text. Its status also shows the rows whose text changed, the vectors of unknown origin,
    the rows that failed, the queue of changes, the run in progress on any machine, and the last runs.

    With --set it first changes a setting of the run in progress, which follows within a second or two. The change ends
    with the run.

    Counts every [[target]] of a file; --table selects one.

    \b
    vecfill status -d postgresql://localhost/app -t public.jobs --text '{title} at {company}'
    vecfill status -d postgresql://localhost/app -t public.jobs --watch
    vecfill status -d postgresql://localhost/app -t public.jobs --set max_rate=500
    """
    log_to_stderr(output)
    targets = Settings.load_all(flags, config)
    show = _shown_as_json if output.json else _printed
    with ExitStack() as stack:
        watches = [stack.enter_context(closing(_prepared(settings))) for settings in targets]
        looks = [watch.look for watch in watches]
        if any(settings.of(StatusOptions).watch for settings in targets):
            code = _watch(targets, looks, json_lines=output.json)
        else:
            ended = carry_out(targets, looks)
            if any(_textless(settings, one) for settings, one in zip(targets, ended, strict=False)):
                log.info("without --text, rows with nothing to embed count as missing")
            code = worst(one.exit_code for one in ended)
            show(targets, ended, code)
    sys.exit(code)


def _prepared(settings: Settings) -> Watch:
    changes = parse_adjustments(settings.of(StatusOptions).adjust)
    return Watch(settings.of(Target), database_of(settings), changes)


def _textless(settings: Settings, found: Status | Failed) -> bool:
    return settings.text is None and settings.text_sql is None and isinstance(found, Status) and not found.ledger


def _shown_as_json(targets: Sequence[Settings], ended: Sequence[Status | Failed], code: int) -> None:
    click.echo(json.dumps(as_dict(targets, ended, code)))


def _printed(_targets: Sequence[Settings], ended: Sequence[Status | Failed], _code: int) -> None:
    from rich.console import Console

    from vecfill.cli.status_page import status_page

    Console(soft_wrap=True, highlight=False).print(status_page([one for one in ended if isinstance(one, Status)]))


def _watch(targets: Sequence[Settings], looks: Sequence[Callable[[], Status]], *, json_lines: bool) -> int:
    """Shows the status every ``AGAIN_S`` seconds until Ctrl-C; returns the exit code of the last look."""
    code = 0
    with _shown_as_lines(targets) if json_lines else _drawn() as show:
        try:
            while True:
                ended = carry_out(targets, looks)
                code = worst(one.exit_code for one in ended)
                show(ended, code)
                time.sleep(AGAIN_S)
        except KeyboardInterrupt:
            return code


@contextmanager
def _shown_as_lines(targets: Sequence[Settings]) -> Iterator[Callable[[Sequence[Status | Failed], int], None]]:
    yield lambda ended, code: _shown_as_json(targets, ended, code)


@contextmanager
def _drawn() -> Iterator[Callable[[Sequence[Status | Failed], int], None]]:
    from rich.console import Console
    from rich.live import Live

    from vecfill.cli.status_page import status_page

    with Live(console=Console(highlight=False), auto_refresh=False, vertical_overflow="visible") as live:
        yield lambda ended, _: live.update(status_page([one for one in ended if isinstance(one, Status)]), refresh=True)
