"""The engine in this process, for runs that finish before Ray would have started.

On two cores Ray takes 3 to 8 s to start, and its first actor 6 to 15 s more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from vecfill.engine.threads import Stages, stream
from vecfill.job import Hold, Job, Shared, Stop, Unit, Worker
from vecfill.log_fields import in_context


class InlineEngine:
    """Runs the stages of a job in threads of this process."""

    name = "inline"

    def __init__(self, job: Job, kept: MutableMapping[str, Any] | None = None, *, shared: Shared | None = None) -> None:
        """Makes the stages.

        Args:
            job: what to run.
            kept: objects that this process keeps between runs, such as a loaded model.
            shared: the budget of an API, if several engines share it; None makes one for this engine.
        """
        self._job, self._stop, self._lock = job, Stop(), threading.Lock()
        self._abandoned = threading.Event()
        self._encoded = self._committed = 0
        self._shared = shared or job.encode.shared()
        self._worker = Worker(
            stopped=self._stopped,
            stop=self._ask_to_stop,
            hold=self._hold,
            encoded=self._count_encoded,
            committed=self._count_committed,
            shared=self._shared,
            kept={} if kept is None else kept,
        )
        self.read, self.encode, self.write = (
            job.source.reader(self._worker),
            job.encode.stage(self._worker),
            job.sink.writer(self._worker),
        )

    def _stopped(self) -> bool:
        return self._stop.is_set() or self._abandoned.is_set()

    def _ask_to_stop(self, reason: str) -> None:
        self._stop.set(reason)

    def _hold(self) -> Hold:
        return self._stop.hold

    def _count_encoded(self, rows: int) -> None:
        with self._lock:  # two blocks at a time
            self._encoded += rows

    def _count_committed(self, rows: int) -> None:
        self._committed += rows

    @property
    def workers(self) -> dict[str, int]:
        """One worker per stage: the time of a second encode thread is not counted twice."""
        return {"read": 1, "encode": 1, "write": 1}

    def account(self) -> Any:
        """See ``Engine``."""
        return self._shared.account() if self._shared else None

    def committed(self) -> tuple[int, bool]:
        """See ``Engine``."""
        return self._committed, True

    @property
    def reached(self) -> tuple[int, int]:
        """See ``Engine``."""
        return self._encoded, self._committed

    def stream(self, units: Sequence[Unit], stop: Stop) -> Iterator[pa.Table]:
        """See ``Engine``. Raises the original error of any stage."""
        self._stop = stop
        self._abandoned.clear()
        stages = Stages(read=self.read, encode=self.encode, write=self.write, calls=self._job.encode.calls)
        with ThreadPoolExecutor(1, "warm") as warm:
            if not stop.is_set():
                warm.submit(in_context(self.encode.warm))  # its error is raised again by the first block
            yield from stream(stages, units, stop, abandon=self._abandoned.set)

    def retarget(self, job: Job) -> None:
        """See ``Engine``."""
        self.write.close()
        self._job, self.read, self.write = job, job.source.reader(self._worker), job.sink.writer(self._worker)

    def close(self) -> None:
        """Closes the connections."""
        for stage in (self.read, self.encode, self.write):
            stage.close()
