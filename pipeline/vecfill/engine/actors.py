"""The encoder and the writer as Ray actors, and the flag that asks them to finish."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray

from vecfill.blocks import encoded_schema
from vecfill.encode.api.budget import RequestBudget, Verdict
from vecfill.encode.stage import Encode, EncodeSpec
from vecfill.engine.worker_log import log_to_stderr
from vecfill.job import BUDGET, Job
from vecfill.write.writer import Write


@ray.remote(num_cpus=0)
class StopFlag:
    """Asked once a block. Leaving Ray's iterator instead would kill a writer 2 s later, before its COMMIT.

    It also carries what the writers have to say to the driver, which does not see their logs.
    """

    def __init__(self) -> None:
        self._reason: str | None = None
        self._said: list[str] = []

    def set(self, reason: str) -> None:
        """From now on the stages hand back empty blocks."""
        self._reason = self._reason or reason

    def is_set(self) -> bool:
        """Whether the stop was asked for."""
        return self._reason is not None

    def reason(self) -> str | None:
        """Why, if it was."""
        return self._reason

    def say(self, line: str) -> None:
        """Keeps a line for the driver."""
        self._said.append(line)

    def heard(self) -> list[str]:
        """The lines since the last call."""
        said, self._said = self._said, []
        return said


BudgetActor = ray.remote(num_cpus=0)(RequestBudget)


class SharedBudget:
    """The one ledger of all encoders, from any of them: what they spend together is bounded, not what each does."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def reserve(self, tokens: int, splits: bool) -> Verdict:
        """See ``RequestBudget``."""
        verdict: Verdict = await self._actor.reserve.remote(tokens, splits)
        return verdict

    async def settle(self, held: int, used: int) -> None:
        """See ``RequestBudget``."""
        await self._actor.settle.remote(held, used)


class EncodeActor:
    """``Encode`` with a look at the flag before each block.

    ``share``: actors that share this machine's cores; ``ledger``: of an API's requests, None for a local model.

    The model is loaded from the first moment on, while rows are read; in a thread, since Ray would pass an error of the
    constructor on as text alone. Of several actors on a node one fetches a hub model's files: the others wait at the
    hub library's lock.
    """

    def __init__(self, spec: EncodeSpec, share: int, flag: Any, ledger: Any) -> None:
        log_to_stderr()
        threads = spec.threads or max(1, len(os.sched_getaffinity(0)) // share)
        budget = SharedBudget(ledger) if ledger else None
        self._encode, self._flag = Encode(replace(spec, threads=threads), budget), flag
        self._encode.stopped = lambda: bool(ray.get(flag.is_set.remote()))
        self._loaded = ThreadPoolExecutor(1, "load").submit(self._encode.warm)
        self._nothing = encoded_schema(spec.arity, spec.dim or 1).empty_table()

    def __call__(self, table: pa.Table) -> pa.Table:
        """TextBlock in, EncodedBlock out; empty once the stop is asked for."""
        if ray.get(self._flag.is_set.remote()):
            return self._nothing
        self._loaded.result()
        vectors = self._encode(table)
        if self._encode.over_budget:
            ray.get(self._flag.set.remote(BUDGET))
        return vectors


class WriteActor:
    """``Write``, one of ``share``; what was encoded is written, stop or not, but for what the limits hold back."""

    def __init__(self, job: Job, share: int, flag: Any) -> None:
        log_to_stderr()
        self._write = Write(job.database, job.relation, job.write_limits.shared(share))
        self._write.throttle.stopped = lambda: bool(ray.get(flag.is_set.remote()))
        self._write.throttle.say = flag.say.remote

    def __call__(self, table: pa.Table) -> pa.Table:
        """EncodedBlock in, WriteResult out."""
        return self._write(table)
