"""What a verb means to do with the target it looks at: a run takes it, and stops at the first obstacle.

A verb that only looks brings an intent of its own, so that it sees just what a run would see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from vecfill.backfill.checks import check_sql, check_write
from vecfill.encode.model.fingerprint import Fingerprint
from vecfill.ledger.lease import Lease
from vecfill.ledger.models import model_number, note_model
from vecfill.ledger.registry import Tracked
from vecfill.postgres.database import Connection
from vecfill.postgres.queue_introspect import try_statuses
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.read.source import TableSource
from vecfill.read.survey import Survey
from vecfill.read.tracked import TrackedSource


class Intent(Protocol):
    """The steps of a look at a target that differ between verbs."""

    def obstacle(self) -> AbstractContextManager[object]:
        """Surrounds a check whose failure prevents a run, but not a look."""

    def take(self, connection: Connection, tracked: Tracked, own: Fingerprint) -> Tracked:
        """Returns a tracked target with the number of the model at work, and the run that holds it.

        Raises:
            LeaseError: another run works on it.
        """

    def check(self, connection: Connection, relation: Relation, selection: Selection) -> None:
        """Checks the user's SQL and this role's rights.

        Raises:
            ConfigError: something is wrong with them.
        """

    def survey(self, source: TableSource) -> Survey:
        """Surveys the target; see ``TableSource.survey``."""

    def note_model(self, connection: Connection, tracked: Tracked, others: Mapping[str, int]) -> None:
        """Called before the first write, if there is one; ``others`` are the vectors of ``other_models``."""


@dataclass
class RunIntent:
    """Registers the model and takes the lease, which is all that a run writes before its rows; None takes none.

    ``track`` has checked the SQL of a tracked target. What a run would check again, as others may have changed the
    table since, it leaves out if it has nothing to do: that is a quarter of what such a run costs the server.
    """

    lease: Lease | None = None
    _put_off: Callable[[Connection], None] | None = field(default=None, init=False)

    def obstacle(self) -> AbstractContextManager[object]:
        """Lets the error end the run."""
        return nullcontext()

    def take(self, connection: Connection, tracked: Tracked, own: Fingerprint) -> Tracked:
        """See ``Intent``."""
        schema = tracked.relation.ledger.schema
        tracked = tracked.with_model(model_number(connection, schema, own.digest, own.name, own.recorded))
        return self.lease.take(connection, tracked) if self.lease else tracked

    def check(self, connection: Connection, relation: Relation, selection: Selection) -> None:
        """Checks what reads and what writes; of a tracked target without ``--set`` once there is something to do."""

        def check(held: Connection) -> None:
            check_sql(held, relation, selection)
            check_write(held, relation, selection)
            try_statuses(held, relation)

        self._put_off = None
        if relation.tracking and not relation.user_sql.assignments:
            self._put_off = check
        else:
            check(connection)

    def survey(self, source: TableSource) -> Survey:
        """Settles the queue of a tracked target."""
        if not (isinstance(source, TrackedSource) and source.is_idle()):
            self._catch_up(source)
        found = source.survey()
        if found.coverage.open:
            self._catch_up(source)
        return found

    def _catch_up(self, source: TableSource) -> None:
        """Makes the checks that were put off."""
        if self._put_off:
            source.session.run(self._put_off)
            self._put_off = None

    def note_model(self, connection: Connection, tracked: Tracked, others: Mapping[str, int]) -> None:
        """Notes that this run's model writes vectors of the target."""
        note_model(connection, tracked, others)
