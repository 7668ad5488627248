"""The bar: one line that fits the terminal, whatever its width."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions
from rich.text import Text

from vecfill.backfill.meter import duration
from vecfill.cli.shown_run import Shown

BAR_WIDTH = range(8, 41)
"""Columns of the bar itself."""


class Bar:
    """Draws the state of a run."""

    def __init__(self, state: Shown) -> None:
        self._state = state

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width = options.max_width - 1  # some terminals wrap at the last column
        text = self._text(width, ascii_only=options.ascii_only, plain=console.no_color or not console.color_system)
        text.no_wrap, text.overflow = True, "ellipsis"
        text.truncate(width)
        yield text

    def _text(self, width: int, *, ascii_only: bool, plain: bool) -> Text:
        state = self._state
        if (event := state.look()) is None:
            return Text()
        if state.startup.ended is None:
            waits = f", {state.meter.obstacle(event)}" if state.meter.waits_for else ""
            whole, current = (one + waits for one in state.startup.lines(time.monotonic()))
            return Text(whole if len(whole) <= width else current)
        meter, total = state.meter, event.eligible
        count, left = f"{meter.position:,}/{total:,}", f"{duration(meter.left)} left" if meter.left else ""
        rate = "" if meter.rate is None else f"{meter.rate:,.0f} rows/s"
        obstacle = meter.obstacle(event)
        title = state.title if event.sweep == 1 else f"{state.title}, sweep {event.sweep}"
        for before, after in ((title, (count, rate, left, obstacle)), ("", (count, rate, left)), ("", (count, left))):
            words, room = " ".join(one for one in after if one), width - 1
            room -= len(words) + (len(before) + 1 if before else 0)
            if room >= BAR_WIDTH.start:
                break
        else:
            return Text(words)
        drawn = _drawn(min(room, BAR_WIDTH.stop - 1), meter.position / max(total, 1), ascii_only, plain)
        return Text(f"{before} " if before else "") + drawn + Text(f" {words}")


def _drawn(width: int, share: float, ascii_only: bool, plain: bool) -> Text:
    """The bar; without colours only its done part shows."""
    mark, done = "-" if ascii_only else "━", round(width * min(1.0, share))
    return Text(mark * done, "bar.complete") + Text((" " if plain else mark) * (width - done), "bar.back")
