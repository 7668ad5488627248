"""The seams of a run: a job is a source, an encoder and a sink; an engine runs it and knows nothing of what they do.

Every stage turns one Arrow block into one Arrow block (``blocks``). A job travels by pickle and opens nothing until a
worker calls a stage.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

log = logging.getLogger(__name__)


class Unit(Protocol):
    """A bounded part of a source: one read turns it into one block. Travels by pickle."""

    @property
    def rows(self) -> int:
        """Eligible rows that the survey counted in it."""


class Reader(Protocol):
    """The read stage."""

    def __call__(self, unit: Any, /) -> pa.Table:
        """Reads a unit into one TextBlock, which may be empty."""

    def nothing(self) -> pa.Table:
        """Returns a TextBlock without rows."""

    def close(self) -> None:
        """Closes the connection; the next call opens another."""


class Stage(Protocol):
    """The encode stage or the write stage."""

    def __call__(self, block: pa.Table, /) -> pa.Table:
        """Turns one block into one block of the same rows, or into their result."""

    def close(self) -> None:
        """Closes connections; the next call opens others."""


class EncodeStage(Stage, Protocol):
    """The encode stage."""

    def warm(self) -> object:
        """Loads the model ahead of the first call; safe to call from another thread."""


class Shared(Protocol):
    """What the encode workers of a run share, such as the budget of an API. Travels by pickle."""

    def account(self) -> Any:
        """What they have spent together, for the result of the run."""


def _never() -> bool:
    return False


def _warn(line: str, **fields: Any) -> None:
    log.warning("%s", line, extra=fields)


@dataclass(kw_only=True)
class Worker:
    """What surrounds one worker of a stage, whichever engine runs it.

    Attributes:
        peers: workers of this stage in the whole run; they share what is limited for all together.
        threads: CPU threads for computing; None keeps the library's number.
        stopped: whether the run is to stop; asked before and during waits.
        stop: asks the run to stop, with the reason.
        say: logs a line, and fields of the event, where the user sees them.
        shared: what ``Encode.shared`` returned, or a proxy with the same methods as coroutines.
        kept: what this process keeps from one run to the next, such as a loaded model.
    """

    peers: int = 1
    threads: int | None = None
    stopped: Callable[[], bool] = _never
    stop: Callable[[str], None] = lambda _: None
    say: Callable[..., None] = _warn
    shared: Any = None
    kept: MutableMapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """Where units are read from."""

    def reader(self) -> Reader:
        """Returns the read stage. In this process it uses the source's own connection; after a pickle, its own."""

    def close(self) -> None:
        """Closes the connection until it is needed again."""


class Encode(Protocol):
    """How texts become vectors."""

    @property
    def device(self) -> str:
        """``auto``, ``cuda`` or ``cpu``: where a worker computes; ``remote`` where it only waits for an API."""

    @property
    def calls(self) -> int:
        """Blocks that one worker takes at a time."""

    def rows_per_s(self, gpus: int) -> float:
        """A rough rate of one worker on a machine with so many GPUs, to choose an engine and the size of blocks."""

    def shared(self) -> Shared | None:
        """Returns what all workers of a run share; None where they share nothing."""

    def stage(self, worker: Worker) -> EncodeStage:
        """Returns the encode stage of one worker."""


class Sink(Protocol):
    """Where vectors are written to."""

    @property
    def may_wait(self) -> bool:
        """Whether a write may wait for long, because of a rate or a lag."""

    def writer(self, worker: Worker) -> Stage:
        """Returns the write stage of one worker."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run's three parts. Travels by pickle."""

    source: Source
    encode: Encode
    sink: Sink


@dataclass
class Stop:
    """A request to finish the blocks in flight and end. The first reason stays."""

    reason: str | None = None
    _event: threading.Event = field(default_factory=threading.Event)

    def set(self, reason: str) -> None:
        """Asks for the stop; safe in a signal handler and from any thread."""
        self.reason = self.reason or reason
        self._event.set()

    def is_set(self) -> bool:
        """Whether the stop was asked for."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits for the request and says whether it came."""
        return self._event.wait(seconds)


BUDGET = "budget"
"""Reason of a stop where ``--max-requests`` or ``--max-cost`` allow no further request."""

ABANDONED = "abandoned"
"""Reason of a stop where an error, or the reader of the results, ends a stream early."""


class Engine(Protocol):
    """Runs units through the stages of a job.

    Attributes:
        name: for the result.
        workers: workers of each stage, by which its seconds are to be divided.
    """

    name: str

    @property
    def workers(self) -> dict[str, int]:
        """Workers by stage."""

    def account(self) -> Any:
        """The account of what the encode workers share; None where they share nothing."""

    def stream(self, units: Sequence[Unit], stop: Stop) -> Iterator[pa.Table]:
        """Yields one WriteResult a block once it is committed; ends early, nothing in flight, once ``stop`` is set."""

    def close(self) -> None:
        """Gives back connections and what is kept for this run alone."""
