"""What an engine is given, what it gives, and how it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from vecfill.config.limits import NO_WRITE_LIMITS, WriteLimits
from vecfill.encode.api.budget import Account
from vecfill.encode.stage import EncodeSpec
from vecfill.postgres.session import Database
from vecfill.postgres.target import Relation
from vecfill.read.units import PageRange


@dataclass(frozen=True, kw_only=True)
class Job:
    """The three stages of a run, each as its spec, and how the writers hold back. Travels by pickle."""

    database: Database
    relation: Relation
    encode: EncodeSpec
    write_limits: WriteLimits = NO_WRITE_LIMITS


@dataclass
class Stop:
    """A request to finish what is in flight and end. The first reason stays."""

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
"""Reason of a stop where --max-requests or --max-cost allow no further request."""


BROKEN_OFF = "broken off"
"""Reason of a stop where an error, or whoever reads the results, ends a stream before its end."""


class Engine(Protocol):
    """Runs ranges through the stages. ``name`` goes into the result; ``workers`` is actors by stage."""

    name: str

    @property
    def workers(self) -> dict[str, int]:
        """How many workers each stage has: what its seconds are to be divided by."""

    def account(self) -> Account | None:
        """What has been spent on an API; None where the model is local."""

    def stream(self, ranges: Sequence[PageRange], stop: Stop) -> Iterator[pa.Table]:
        """Yields a WriteResult a block as it is committed; ends early, nothing in flight, once ``stop`` is set."""

    def close(self) -> None:
        """Gives back processes, connections and memory."""
