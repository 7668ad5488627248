"""The interfaces of a run: a job has a source, an encoder and a sink; an engine runs it without knowing what they do.

Every stage turns one Arrow block into one Arrow block (``blocks``). A job can be pickled, and opens no connection until
a worker calls a stage.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa


class Unit(Protocol):
    """A part of a source that one read turns into one block. Can be pickled."""

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

    def forget(self) -> None:
        """Frees what was kept for later blocks, except the model; not while a block is encoded."""


class Shared(Protocol):
    """State that the encode workers of a run share, such as the budget of an API. Can be pickled.

    Its other methods are the stage's own. Where workers may die, each call names its worker (``worker=…``).
    """

    def account(self) -> Any:
        """Returns what they have spent in total, for the result of the run."""

    def restarted(self, worker: str) -> None:
        """Releases what a worker held when its process died; another process takes its place."""


def _never() -> bool:
    return False


def _ignore(_: object) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What holds all workers of a run back at the moment, as the process that started it decides.

    Attributes:
        paused: why nothing may be read or written; None if the run goes on.
        max_rate: rows per second of all writers together, in place of their limit; ``inf`` for none, None for theirs.
        share: share of the time in which a writer may write.
    """

    paused: str | None = None
    max_rate: float | None = None
    share: float = 1.0

    @property
    def waits_for(self) -> str | None:
        """The end of a pause, in words; None without one."""
        return f"the end of a pause ({self.paused})" if self.paused else None


@dataclass(kw_only=True)
class Worker:
    """The context of one worker of a stage, the same for every engine.

    Attributes:
        peers: workers of this stage in the whole run; they share limits such as the rate.
        threads: CPU threads for computing; None keeps the library's number.
        gpu_share: share of a GPU's memory that computing may take; 1 where no other worker computes on it.
        stopped: whether the run should stop; checked before and during waits.
        stop: requests a stop of the run, with the reason.
        hold: what holds the run back at the moment.
        encoded: counts rows as encoded, also while their block is being encoded.
        committed: called with the number of rows that a transaction of this worker has updated.
        shared: what ``Encode.shared`` returned, or a proxy with the same methods as coroutines.
        kept: objects that this process keeps between runs, such as a loaded model.
    """

    peers: int = 1
    threads: int | None = None
    gpu_share: float = 1.0
    stopped: Callable[[], bool] = _never
    stop: Callable[[str], None] = _ignore
    hold: Callable[[], Hold] = Hold
    encoded: Callable[[int], None] = _ignore
    committed: Callable[[int], None] = _ignore
    shared: Any = None
    kept: MutableMapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """Supplies the read stage."""

    def reader(self, worker: Worker) -> Reader:
        """Returns the read stage of one worker. It uses the source's connection; a pickled source opens its own."""

    def close(self) -> None:
        """Closes the connection; the next use opens another."""


class Encode(Protocol):
    """How texts become vectors."""

    @property
    def device(self) -> str:
        """``auto``, ``cuda`` or ``cpu``: where a worker computes; ``remote`` if it only waits for an API."""

    @property
    def calls(self) -> int:
        """Blocks that one worker takes at a time."""

    def rows_per_s(self, gpus: int) -> float:
        """A rough rate of one worker on a machine with ``gpus`` GPUs, to choose an engine and the size of blocks."""

    def shared(self) -> Shared | None:
        """Returns the state that all workers of a run share; None if they share nothing."""

    def stage(self, worker: Worker) -> EncodeStage:
        """Returns the encode stage of one worker."""


class Sink(Protocol):
    """Supplies the write stage."""

    @property
    def may_wait(self) -> bool:
        """Whether a write may wait for long, because of a rate or a lag."""

    def writer(self, worker: Worker) -> Stage:
        """Returns the write stage of one worker."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run's three parts. Can be pickled."""

    source: Source
    encode: Encode
    sink: Sink


@dataclass
class Stop:
    """A request to finish the blocks in flight and end; until then, what holds the run back."""

    reason: str | None = None
    hold: Hold = field(default_factory=Hold)
    _event: threading.Event = field(default_factory=threading.Event)

    def set(self, reason: str, *, override: bool = False) -> None:
        """Requests the stop; safe in a signal handler and from any thread.

        The first reason is kept, unless a later one is to ``override`` it, as a signal does.
        """
        self.reason = reason if override else self.reason or reason
        self._event.set()

    def is_set(self) -> bool:
        """Whether the stop was requested."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits for the request; returns whether it came."""
        return self._event.wait(seconds)


BUDGET = "budget"
"""Stop reason: ``--max-requests`` or ``--max-cost`` allows no further request."""

LOCKED = "locked"
"""Stop reason: another session keeps the whole table locked."""


class Engine(Protocol):
    """Runs units through the stages of a job.

    Attributes:
        name: for the result.
        workers: number of workers per stage; divide the seconds of a stage by it.
    """

    name: str

    @property
    def workers(self) -> dict[str, int]:
        """Workers by stage."""

    @property
    def reached(self) -> tuple[int, int]:
        """Rows encoded and rows committed so far, of blocks in flight too; cheap, and in any thread."""

    def account(self) -> Any:
        """The account of the state that the encode workers share; None if they share nothing."""

    def committed(self) -> tuple[int, bool]:
        """Rows updated so far, also by blocks without a result; and whether that is all: a writer may have died."""

    def stream(self, units: Sequence[Unit], stop: Stop) -> Iterator[pa.Table]:
        """Yields one WriteResult per committed block; once ``stop`` is set, finishes the blocks in flight and ends."""

    def retarget(self, job: Job) -> None:
        """Continues with another source and sink between two streams; the encoders and their model stay."""

    def close(self) -> None:
        """Closes connections and frees what belongs only to this run."""
