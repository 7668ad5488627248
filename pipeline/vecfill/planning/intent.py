"""How a plan looks at a target: as a run does, but it takes nothing, and notes what would end a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from vecfill.backfill.checks import check_sql, check_write
from vecfill.encode.model.fingerprint import Fingerprint
from vecfill.errors import ConfigError, LeaseError, SecretError, UnreachableError
from vecfill.ledger.lease import held_by_other
from vecfill.ledger.models import known_number
from vecfill.ledger.registry import Tracked
from vecfill.planning.record import Refusal
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.read.queue_table_source import QueueTableSource
from vecfill.read.source import TableSource
from vecfill.read.survey import Survey
from vecfill.read.tracked import TrackedSource
from vecfill.read.tracked_dry_survey import dry_survey


@dataclass
class PlanIntent:
    """Registers no model, takes no lease and leaves the queue as it is.

    Attributes:
        refusals: why a run would not start, in its own words; each once, since a look may be repeated.
    """

    refusals: list[Refusal] = field(default_factory=list)

    @contextmanager
    def obstacle(self) -> Iterator[None]:
        """Notes the error."""
        try:
            yield
        except (UnreachableError, SecretError):
            raise
        except (ConfigError, LeaseError) as error:
            refusal = Refusal(message=str(error), exit_code=error.exit_code)
            if refusal not in self.refusals:
                self.refusals.append(refusal)

    def take(self, connection: Connection, tracked: Tracked, own: Fingerprint) -> Tracked:
        """Looks the model and the lease up."""
        with self.obstacle():
            if error := held_by_other(connection, tracked.relation):
                raise error
        return tracked.with_model(known_number(connection, tracked.relation.ledger.schema, own.digest))

    def check(self, connection: Connection, relation: Relation, selection: Selection) -> None:
        """Checks what reads; notes what is wrong with what writes."""
        check_sql(connection, relation, selection, writing=False)
        with self.obstacle():
            check_sql(connection, relation, selection)
            check_write(connection, relation, selection)

    def survey(self, source: TableSource) -> Survey:
        """Counts what a run would take."""
        if isinstance(source, TrackedSource):
            return dry_survey(source)
        return source.dry_survey() if isinstance(source, QueueTableSource) else source.survey()

    def note_model(self, connection: Connection, tracked: Tracked, others: Mapping[str, int]) -> None:
        """Notes nothing."""
