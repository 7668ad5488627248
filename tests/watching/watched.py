"""What the tests of watches share: a watch in a thread of this process, stopped at the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.tables import DOCS, INLINE, MODEL

from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.config.watch import WatchOptions
from vecfill.errors import VecfillError
from vecfill.job import Stop
from vecfill.watching.watch import watch
from vecfill.watching.watched import Watched, WatchResult

INTERVAL = 0.02


@dataclass
class Going:
    """A watch that goes on, and how it ended."""

    thread: threading.Thread
    stop: Stop
    result: WatchResult | None = None
    error: VecfillError | None = None

    def end(self) -> WatchResult:
        """Stops it, and returns its result."""
        self.stop.set("the test's end")
        return self.ended()

    def ended(self) -> WatchResult:
        """Waits until it ends by itself."""
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error
        return self.result


def watched(database: str, target: Target = DOCS, *, options: RunOptions = INLINE, model=MODEL) -> Watched:
    return Watched(target=target, model=model, database=database, options=options, interval=INTERVAL)


@contextmanager
def watching(*targets: Watched, options: WatchOptions | None = None) -> Iterator[Going]:
    """Watches meanwhile."""

    def work() -> None:
        try:
            going.result = watch(*targets, options=options, stop=going.stop)
        except VecfillError as error:
            going.error = error

    going = Going(threading.Thread(target=work), Stop())
    going.thread.start()
    try:
        yield going
    finally:
        going.stop.set("the test's end")
        going.thread.join()
