"""A run that is ready to drain: the user's settings, the target as it is, and what the survey found."""

from __future__ import annotations

from dataclasses import dataclass

from vecfill.backfill.forecast import Forecast
from vecfill.backfill.startup import StartupTimes
from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.job import Job
from vecfill.ledger.registry import Tracked
from vecfill.postgres.index_sql import SavedIndex
from vecfill.postgres.relation import Relation
from vecfill.read.source import TableSource
from vecfill.read.survey import Coverage, Survey
from vecfill.read.tracked import LedgerCounts, TrackedSource


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that is ready to drain.

    Attributes:
        target: the user's settings.
        relation: the target as the catalogue describes it.
        tracked: what the ledger says of it; None if it is not tracked.
        model: the model that makes the vectors.
        source: the target as a source.
        found: the result of the survey.
        startup: the clock of the start-up.
        job: the job for the engine; None if no row is eligible.
        forecast: the cost for the server; None if no row is eligible.
        to_drop: vector indexes that the run drops before its first row, and builds again; ``job`` does without them.
    """

    target: Target
    relation: Relation
    tracked: Tracked | None
    model: Model
    source: TableSource
    found: Survey
    startup: StartupTimes
    job: Job | None = None
    forecast: Forecast | None = None
    to_drop: tuple[SavedIndex, ...] = ()

    @property
    def before(self) -> Coverage:
        """The coverage before the run."""
        return self.found.coverage

    @property
    def counts(self) -> LedgerCounts | None:
        """What the run finds in the ledger; None if the target is not tracked."""
        return self.source.counts if isinstance(self.source, TrackedSource) else None
