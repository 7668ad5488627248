"""``vecfill status``: the coverage of a target, counted with the same SQL as a run, and what its ledger says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import psycopg

from vecfill.backfill.checks import check_sql, check_writable, warn_no_row_can_miss
from vecfill.backfill.tracked_checks import check_one_queue
from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.ledger.adjust_run import adjust_run
from vecfill.ledger.completed_target import find_completed, need_tracked
from vecfill.ledger.registry import Tracked
from vecfill.ledger_status import LedgerStatus, from_ledger
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import server_message, wrap_driver_errors
from vecfill.postgres.introspect import inspect
from vecfill.postgres.queue_introspect import check_queue_table, with_queue_table
from vecfill.postgres.relation import Relation
from vecfill.postgres.row_security import check_visible
from vecfill.postgres.selection import selection_of
from vecfill.postgres.session import Session
from vecfill.read.pieces import Pieces
from vecfill.read.queue_findings import QueueFindings, queue_findings
from vecfill.read.survey import Coverage, survey

COUNTING_SHARE = 0.1
"""Most of the time that a repeated status spends on counting the table; what it counted before is shown meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Coverage of a table's embedding column.

    Attributes:
        table: ``schema.table``.
        coverage: its counts.
        row_security: row-level policies apply to the role, so that only rows that it may see are counted.
        run_needs: the error with which a run would end before it writes, such as a missing right; None if it starts.
        ledger: what the ledger says; None if the target is not tracked, or not as given.
        queue: what the queue table says; None without one.
    """

    table: str
    coverage: Coverage
    row_security: bool = False
    run_needs: str | None = None
    ledger: LedgerStatus | None = None
    queue: QueueFindings | None = None
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "table": self.table,
            **asdict(self.coverage),
            "percent": round(self.coverage.percent, 2),
            "row_security": self.row_security,
            "run_needs": self.run_needs,
            **(self.ledger.as_dict() if self.ledger else {}),
            **({"queue": self.queue.as_dict()} if self.queue else {}),
        }


def status(target: Target, *, database: str | Database | None = None) -> Status:
    """Counts the rows of the target with and without a vector. The role needs only SELECT.

    Without a text in the target, rows with nothing to embed count as missing, unless the target is tracked: then the
    text is that of ``track``.

    Args:
        target: what to count.
        database: connection string; None takes libpq's environment.

    Raises:
        ConfigError: no database; no such table or column; SQL of the target that does not parse; row-level security
            hides every row from the role.
    """
    with closing(Watch(target, database)) as watch:
        return watch.look()


class Watch:
    """Looks at a target again and again, on one connection."""

    def __init__(self, target: Target, database: str | Database | None, changes: Mapping[str, Any] = {}) -> None:
        """Takes ``changes`` of settings, for the first look to make in the run in progress."""
        self._target, self._changes = target, changes
        self._place = Database.resolve(database)
        self._session: Session | None = None
        self._pieces = Pieces()
        self._coverage: Coverage | None = None
        self._count_again = 0.0

    def look(self) -> Status:
        """Returns the status now; where counting takes long, with the counts of a moment ago.

        Raises:
            As ``status``.
        """
        with wrap_driver_errors():
            if self._session is None:
                self._session = Session.connect(self._place)
            return self._session.run(self._look)

    def close(self) -> None:
        """Closes the connection."""
        if self._session is not None:
            self._session.close()

    def _look(self, connection: Connection) -> Status:
        found = _find(connection, self._target)
        if self._changes:
            adjust_run(connection, need_tracked(connection, self._target, "--set").relation, self._changes)
            self._changes = {}
        coverage = self._counted(connection, found.relation)
        ledger = None
        if found.tracked:
            coverage, ledger = from_ledger(connection, self._target, found.tracked, coverage)
        return Status(
            table=found.relation.table.label,
            coverage=coverage,
            row_security=found.relation.access.policies,
            run_needs=_run_needs(connection, found),
            ledger=ledger,
            queue=_from_queue_table(connection, found),
        )

    def _counted(self, connection: Connection, relation: Relation) -> Coverage:
        """Counts the rows, unless the last count was too short a time ago for what it took."""
        started = time.monotonic()
        if self._coverage is None or started >= self._count_again:
            selection = selection_of(self._target)
            check_sql(connection, relation, selection, writing=False)
            check_visible(connection, relation)
            if self._coverage is None:
                warn_no_row_can_miss(relation, selection)
            self._coverage = survey(connection, relation, selection, exact=True, pieces=self._pieces).coverage
            ended = time.monotonic()
            self._count_again = ended + (ended - started) / COUNTING_SHARE
        return self._coverage


@dataclass(frozen=True)
class _Found:
    """A target as it is: with the text of ``track``, and its tracking; or why that does not fit what is asked."""

    target: Target
    relation: Relation
    tracked: Tracked | None = None
    misfit: ConfigError | None = None


def _find(connection: Connection, target: Target) -> _Found:
    plain = inspect(connection, target, text_needed=False, key_needed=False)
    try:
        full, tracked = find_completed(connection, target, plain)
    except ConfigError as error:
        return _Found(target, plain, misfit=error)
    return _Found(full, tracked.relation if tracked else plain, tracked)


def _from_queue_table(connection: Connection, found: _Found) -> QueueFindings | None:
    """What the queue table says, if it fits the target; ``_run_needs`` says why it does not."""
    if found.target.queue.table is None:
        return None
    try:
        relation = with_queue_table(connection, found.relation, found.target)
    except ConfigError:
        return None
    return queue_findings(connection, relation, selection_of(found.target))


def _run_needs(connection: Connection, found: _Found) -> str | None:
    """Makes the checks of a run that read nothing; a status without a text says nothing about the text."""
    if found.misfit:
        return str(found.misfit)
    relation = replace(found.relation, tracking=None)
    try:
        if not relation.table.key:
            inspect(connection, found.target, text_needed=False)  # says which key there could be
        check_writable(relation)
        check_sql(connection, relation, selection_of(found.target))
        check_one_queue(found.tracked, found.target)
        check_queue_table(connection, with_queue_table(connection, relation, found.target))
    except psycopg.errors.LockNotAvailable as error:  # the count is known, and a run would wait for the table
        return f"{relation.table.label} is locked as a whole by another session: {server_message(error)}"
    except ConfigError as error:
        return str(error)
    return None
