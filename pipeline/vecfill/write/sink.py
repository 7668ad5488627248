"""A table of PostgreSQL as the sink of a run."""

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
    """Writes vectors into a target. Travels by pickle.

    Attributes:
        database: where it is.
        relation: the target.
        selection: the rows to take; a row that is no longer open is left as it is.
        limits: what all writers together keep to.
    """

    database: Database
    relation: Relation
    selection: Selection = MISSING
    limits: WriteLimits = NO_WRITE_LIMITS

    @property
    def may_wait(self) -> bool:
        """Whether a write may wait for long, because of a rate or a lag."""
        return self.limits.may_wait

    def writer(self, worker: Worker) -> Writer:
        """Returns the write stage of one worker, with a connection of its own."""
        return Writer(Session(self.database), self.relation, self.selection, self.limits, worker)
