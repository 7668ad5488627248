"""What the ledger adds to the status of a target: its queue, its runs, and the indexes that wait."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vecfill.config.target import Target
from vecfill.ledger import queue
from vecfill.ledger.recorded_runs import Holder, RunRecord, recorded_runs
from vecfill.ledger.registry import Tracked
from vecfill.ledger.waiting_indexes import still_missing, waits
from vecfill.postgres.database import Connection
from vecfill.postgres.selection import CHANGED, selection_of
from vecfill.read.survey import Coverage
from vecfill.read.tracked import pending, with_queue

LAST_RUNS = 10
"""Ended runs that a status has."""


@dataclass(frozen=True, kw_only=True)
class LedgerStatus:
    """What the ledger says of a tracked target.

    Attributes:
        queued: entries of the queue of changes; several may concern one row, or none that needs a vector.
        oldest_s: age of the oldest in seconds; None if the queue is empty.
        unknown: vectors of unknown origin when the table was last read as a whole; None if it was not yet.
        running: the run in progress.
        runs: the last runs that have ended, the newest first.
        waiting_indexes: what there is to say of each vector index that a run has dropped and that is not built again.
    """

    queued: int
    oldest_s: float | None
    unknown: int | None
    running: Holder | None
    runs: tuple[RunRecord, ...]
    waiting_indexes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "tracked": True,
            "queued": self.queued,
            "oldest_s": self.oldest_s,
            "unknown": self.unknown,
            "running": self.running.as_dict() if self.running else None,
            "runs": [run.as_dict() for run in self.runs],
            "waiting_indexes": list(self.waiting_indexes),
        }


def from_ledger(
    connection: Connection, target: Target, tracked: Tracked, counted: Coverage
) -> tuple[Coverage, LedgerStatus]:
    """Adds what only the ledger knows, at the cost of its queue and its failures, not of the table."""
    relation, changed = tracked.relation, selection_of(target, "changed")
    queued = queue.queue_of(connection, relation)
    _, outdated = queue.failures_waiting(connection, relation, changed)
    coverage = replace(
        counted,
        changed=pending(connection, with_queue(relation), changed).states.get(CHANGED, 0),
        unknown=tracked.unknown or 0,
        failed=counted.failed + outdated,
    )
    running, runs = recorded_runs(connection, relation, LAST_RUNS)
    return coverage, LedgerStatus(
        queued=queued.entries,
        oldest_s=queued.oldest_s,
        unknown=tracked.unknown,
        running=running,
        runs=tuple(runs),
        waiting_indexes=tuple(waits(one, tracked.waiting) for one in still_missing(connection, tracked.waiting)),
    )
