"""Progress of a run on stderr: a bar on a terminal, a line of the log every ten seconds elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from vecfill.backfill.meter import fields, line
from vecfill.backfill.progress import Progress
from vecfill.background import in_background
from vecfill.cli.logs import logs_json
from vecfill.cli.shown_run import Shown

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

LINE_EVERY_S = 10.0

LOOK_EVERY_S = 0.25
"""How often the state of the run is looked at; the bar is drawn as often."""


@contextmanager
def shown(*, quiet: bool, title: str = "embedding", max_rate: float | None = None) -> Iterator[Shown]:
    """Shows what the yielded object, the ``progress`` of a run, is told."""
    state = Shown(title, max_rate)
    with state.waiting.taken(), nullcontext() if quiet else _bar(state) if _can_draw() else _lines(state):
        yield state


def _can_draw() -> bool:
    """Whether stderr is a terminal that can move its cursor, and no program reads it."""
    return (
        sys.stderr is not None
        and sys.stderr.isatty()
        and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        and not logs_json()
    )


@contextmanager
def _lines(state: Shown) -> Iterator[None]:
    """A line of the log every ``LINE_EVERY_S`` seconds, also while no block is finished."""
    ended, asking = threading.Event(), threading.Lock()
    state.hidden = lambda: asking

    def write() -> None:
        due = time.monotonic() + LINE_EVERY_S
        while not ended.wait(LOOK_EVERY_S):
            with asking:
                event = state.look()
            if event is not None and time.monotonic() >= due:
                due = time.monotonic() + LINE_EVERY_S
                _write_line(event, state)

    with in_background("progress", write, ended.set):
        yield


def _write_line(event: Progress, state: Shown) -> None:
    meter = state.meter
    if state.startup.ended is None:
        text = state.startup.lines(time.monotonic())[0] + (f", {meter.obstacle(event)}" if meter.waits_for else "")
        log.info("%s", text, extra={"event": "start-up", "step": event.step, "waiting_for": meter.waits_for})
        return
    measured = fields(event, meter)
    log.info("%s", line(measured), extra={"event": "progress", **measured})


@contextmanager
def _bar(state: Shown) -> Iterator[None]:
    from rich.console import Console
    from rich.live import Live

    from vecfill.cli.bar import Bar

    console = Console(stderr=True)
    live = Live(Bar(state), console=console, refresh_per_second=1 / LOOK_EVERY_S, redirect_stdout=False, transient=True)

    @contextmanager
    def hidden() -> Iterator[None]:
        live.stop()
        try:
            yield
        finally:
            live.start()

    state.hidden = hidden
    with live, _logs_above(console):
        try:
            yield
        finally:
            state.end()
            live.transient = state.startup.ended is None  # what was drawn last stays, if rows were embedded


class _Above:
    """A stream whose lines go above the bar, whole: a terminal wraps a long one, and no line break is added."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> None:
        """Takes whole lines, as the log writes them."""
        self._console.print(text.rstrip("\n"), soft_wrap=True, markup=False, highlight=False, emoji=False)

    def flush(self) -> None:
        """Does nothing: every line is written at once."""


@contextmanager
def _logs_above(console: Console) -> Iterator[None]:
    """Sends our log above the bar."""
    handlers = [one for one in logging.getLogger("vecfill").handlers if isinstance(one, logging.StreamHandler)]
    before = [one.setStream(_Above(console)) for one in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)
