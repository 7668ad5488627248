"""A PostgreSQL table as the sink of a run."""

from __future__ import annotations

from dataclasses import dataclass

from vecfill.config.limits import NO_WRITE_LIMITS, WriteLimits
from vecfill.job import Worker
from vecfill.postgres.database import Database
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import MISSING, Selection
from vecfill.postgres.session import Session
from vecfill.write.writer import Writer


@dataclass(frozen=True, kw_only=True)
class TableSink:
    """Writes vectors into a target. Can be pickled.

    Attributes:
        database: the target's database.
        relation: the target.
        selection: the rows to write; a row that is no longer open stays unchanged.
        limits: limits of all writers together.
    """

    database: Database
    relation: Relation
    selection: Selection = MISSING
    limits: WriteLimits = NO_WRITE_LIMITS

    @property
    def may_wait(self) -> bool:
        """Whether a limit may make a write wait for long; a run of a tracked target may get one at any time."""
        return self.limits.may_wait or self.relation.tracking is not None

    def writer(self, worker: Worker) -> Writer:
        """Returns the write stage of one worker, with its own connection."""
        session = Session(self.database, stopped=worker.stopped)
        return Writer(session, self.relation, self.selection, self.limits, worker)
