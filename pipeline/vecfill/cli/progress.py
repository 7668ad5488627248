"""Progress of a run on stderr: a bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import click

from vecfill.backfill.drain import Progress
from vecfill.engine.signals import default_handlers

LINE_EVERY_S = 10.0
SMOOTHING = 0.3
"""Weight of the newest block in the smoothed rate."""


@dataclass
class Meter:
    """Rate and time left of a sweep. Its first block is left out of the rate: it includes the start-up."""

    rate: float = 0.0
    _sweep: int = 0
    _done: int = 0
    _at: float = field(default_factory=time.monotonic)

    def update(self, event: Progress) -> None:
        """Updates the rate from a new event."""
        now = time.monotonic()
        if event.sweep == self._sweep:
            newest = (event.done - self._done) / max(now - self._at, 1e-3)
            self.rate = newest if not self.rate else (1 - SMOOTHING) * self.rate + SMOOTHING * newest
        self._sweep, self._done, self._at = event.sweep, event.done, now

    def seconds_left(self, event: Progress) -> float | None:
        """Seconds until the sweep is done at this rate."""
        return max(0, event.eligible - event.done) / self.rate if self.rate else None


def slowest(event: Progress) -> str:
    """The limiting stage: the one with the most seconds of work per worker."""
    return max(event.tally.seconds, key=lambda stage: event.tally.seconds[stage] / event.workers[stage])


def line(event: Progress, meter: Meter) -> str:
    """One plain line of progress."""
    share = 100.0 * event.done / event.eligible if event.eligible else 100.0
    left = meter.seconds_left(event)
    return (
        f"{event.done:,} of {event.eligible:,} rows ({share:.0f}%), "
        + ("" if left is None else f"{meter.rate:,.0f} rows/s, {left:.0f} s left, ")
        + f"limited by: {slowest(event)}"
    )


def asked(excess: str) -> bool:
    """Asks on the terminal whether a run above a confirmation limit may start; without a terminal the answer is no."""
    if sys.stdin is None or sys.stderr is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    with default_handlers():
        return click.confirm(f"{excess}. Go on?", err=True)


@contextmanager
def shown(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Yields the function that ``run`` calls after each block."""
    if quiet:
        yield lambda _: None
    elif sys.stderr is not None and sys.stderr.isatty():
        with _bar() as update:
            yield update
    else:
        yield _Lines()


class _Lines:
    """A line every ``LINE_EVERY_S`` seconds."""

    def __init__(self) -> None:
        self._meter, self._last = Meter(), time.monotonic()

    def __call__(self, event: Progress) -> None:
        self._meter.update(event)
        if time.monotonic() - self._last >= LINE_EVERY_S:
            self._last = time.monotonic()
            click.echo(line(event, self._meter), err=True)


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} rows/s"),
        TextColumn("{task.fields[left]}"),
        TextColumn("limited by: {task.fields[limit]}"),
    )
    meter = Meter()
    with Bars(*columns, console=Console(stderr=True)) as bars, _logs_above():
        task = bars.add_task("embedding", total=None, rate="-", left="", limit="start-up", visible=False)

        def update(event: Progress) -> None:
            meter.update(event)
            left = meter.seconds_left(event)
            bars.update(
                task,
                completed=event.done,
                total=event.eligible,
                visible=True,
                rate=f"{meter.rate:,.0f}",
                left="" if left is None else f"{left:.0f} s left",
                limit=slowest(event),
                description="embedding" if event.sweep == 1 else f"sweep {event.sweep}",
            )

        yield update


@contextmanager
def _logs_above() -> Iterator[None]:
    """Sends our log through the stderr that rich puts in place, so that a log line goes above the bar."""
    handlers = [one for one in logging.getLogger("vecfill").handlers if isinstance(one, logging.StreamHandler)]
    before = [one.setStream(sys.stderr) for one in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)
