"""The actor that the workers of a run call for each block: whether to continue, and which encoder is free."""

from __future__ import annotations

import inspect
import logging
import time
import uuid
from collections import defaultdict, deque
from typing import Any

import ray

from vecfill.errors import StoppedError
from vecfill.job import Hold

REPEATED_S = 5.0
"""What a worker logged less long ago is not logged again: all of them lose the same server."""

LOAD_WAIT_S = 120.0
"""For which the encoders of a node wait for the first to load the model: its process may have died."""

ENDED = 100
"""Ended runs that the coordinator remembers, because a worker of them may still call."""


class RunState:
    """The stop request of a run, each encoder's load, and the workers' log for the driver.

    After a stop, the remaining blocks are empty. Leaving Ray's iterator instead would kill a writer 2 s later, before
    its COMMIT.
    """

    def __init__(self) -> None:
        self._busy: list[int] = []
        self._reason: str | None = None
        self._hold = Hold()
        self._log: list[logging.LogRecord] = []
        self._logged_at: dict[str, float] = {}
        self._members: list[bytes] = []
        self._loads: dict[str, tuple[str, float]] = {}
        self._loaded: set[str] = set()
        self._writing = self._encoded = self._committed = 0

    def join(self, actor: bytes) -> None:
        """Registers an actor of Ray Data's pools by its pickled handle."""
        self._members.append(actor)

    def members(self) -> list[bytes]:
        """Returns the pickled handles of the actors that joined, dead or alive."""
        return self._members

    def set(self, reason: str) -> None:
        """Requests the stop; only the first reason is kept."""
        self._reason = self._reason or reason

    def is_set(self) -> bool:
        """Whether the stop was requested."""
        return self._reason is not None

    def reason(self) -> str | None:
        """The reason for the stop; None if none was requested."""
        return self._reason

    def set_hold(self, hold: Hold) -> None:
        """Sets what holds the workers back."""
        self._hold = hold

    def state(self) -> tuple[bool, Hold]:
        """Returns whether the stop was requested, and what holds the workers back."""
        return self._reason is not None, self._hold

    def take_encoder(self, encoders: int) -> int | None:
        """Returns the least busy of so many encoders and counts a block for it; None once a stop is requested."""
        if self._reason is not None:
            return None
        self._busy += [0] * (encoders - len(self._busy))
        least = self._busy.index(min(self._busy))
        self._busy[least] += 1
        return least

    def give_back(self, encoder: int) -> None:
        """Counts a block of an encoder as done."""
        self._busy[encoder] -= 1

    def may_load(self, node: str, encoder: str) -> bool:
        """Whether an encoder may load the model: the first of a node at once, others once it has or takes too long."""
        first, since = self._loads.setdefault(node, (encoder, time.monotonic()))
        return encoder == first or node in self._loaded or time.monotonic() - since > LOAD_WAIT_S

    def set_loaded(self, node: str) -> None:
        """Lets all encoders of a node load the model; its files are there, and what was learned of it."""
        self._loaded.add(node)

    def begin_write(self) -> None:
        """Counts a block that a writer begins to write."""
        self._writing += 1

    def end_write(self) -> None:
        """Counts a block as written, or failed."""
        self._writing -= 1

    def add_encoded(self, rows: int) -> None:
        """Counts rows as encoded."""
        self._encoded += rows

    def add_committed(self, rows: int) -> None:
        """Counts the rows of a committed transaction."""
        self._committed += rows

    def committed(self) -> tuple[int, bool]:
        """Returns the rows committed, and whether no writer is in the middle of a block."""
        return self._committed, self._writing == 0

    def say(self, record: logging.LogRecord) -> None:
        """Keeps a record for the driver's log, unless a worker has just logged the same, or a wait for the same."""
        same, now = getattr(record, "waits_for", None) or record.getMessage(), time.monotonic()
        if now - self._logged_at.get(same, float("-inf")) >= REPEATED_S:
            self._logged_at[same] = now
            self._log.append(record)

    def news(self) -> tuple[list[logging.LogRecord], tuple[int, int]]:
        """Returns the workers' log since the last call, and the rows encoded and committed so far."""
        found, self._log = self._log, []
        return found, (self._encoded, self._committed)


@ray.remote(num_cpus=0)
class Coordinator:
    """Keeps the state of each run, from its first call on: it outlives a run, since its process takes 1.2 s of CPU."""

    def __init__(self) -> None:
        self._runs: defaultdict[str, RunState] = defaultdict(RunState)
        self._ended: deque[str] = deque(maxlen=ENDED)

    def call(self, run: str, method: str, *arguments: Any) -> Any:
        """Calls a method of the run's state.

        Raises:
            StoppedError: the run has ended.
        """
        if run in self._ended:
            raise StoppedError("the run has ended")
        return getattr(self._runs[run], method)(*arguments)

    def end(self, run: str) -> None:
        """Forgets a run."""
        self._ended.append(run)
        self._runs.pop(run, None)


class Coordination:
    """One run at the coordinator: calls the methods of its ``RunState``. Can be pickled.

    Attributes:
        run: the run's name, which no other has.
    """

    def __init__(self, coordinator: Any) -> None:
        self._coordinator, self.run = coordinator, str(uuid.uuid4())

    def ask(self, method: str, *arguments: Any) -> Any:
        """Calls a method and returns its answer."""
        return ray.get(self._coordinator.call.remote(self.run, method, *arguments))

    def tell(self, method: str, *arguments: Any) -> None:
        """Calls a method and does not wait."""
        self._coordinator.call.remote(self.run, method, *arguments)

    def end(self) -> None:
        """Forgets the run; a worker that still calls gets an error."""
        self._coordinator.end.remote(self.run)


def answers(actor: Any) -> bool:
    """Whether an actor is alive; waits for one that is being started."""
    try:
        ray.get(actor.__ray_ready__.remote())
    except ray.exceptions.RayActorError:
        return False
    return True


@ray.remote(num_cpus=0)
class SharedActor:
    """Holds the one object that all encode workers share, such as the budget of an API."""

    def __init__(self, shared: Any) -> None:
        self._shared = shared

    async def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Calls a method of the object, which may be a coroutine."""
        found = getattr(self._shared, method)(*arguments, **named)
        return await found if inspect.isawaitable(found) else found


class SharedProxy:
    """A worker's proxy of the shared object: every method is a coroutine, and is told which worker calls."""

    def __init__(self, actor: Any, worker: str) -> None:
        """Releases what an earlier process of the same worker held."""
        self._actor, self._worker = actor, worker
        ray.get(actor.call.remote("restarted", worker))

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)

        async def call(*arguments: Any) -> Any:
            return await self._actor.call.remote(method, *arguments, worker=self._worker)

        return call
