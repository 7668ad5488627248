"""``vecfill status``: the coverage of a target, counted with the same SQL as a run."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from vecfill.backfill.checks import check_sql, check_writable
from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import wrap_driver_errors
from vecfill.postgres.introspect import inspect
from vecfill.postgres.row_security import check_visible
from vecfill.postgres.selection import MISSING
from vecfill.postgres.session import Session
from vecfill.read.survey import Coverage, survey


@dataclass(frozen=True, kw_only=True)
class Status:
    """Coverage of a table's embedding column.

    Attributes:
        table: ``schema.table``.
        coverage: its counts.
        row_security: row-level policies apply to the role, so that only rows that it may see are counted.
        run_needs: the error with which a run would end before it writes, such as a missing right; None if it starts.
    """

    table: str
    coverage: Coverage
    row_security: bool = False
    run_needs: str | None = None
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "table": self.table,
            **asdict(self.coverage),
            "percent": round(self.coverage.percent, 2),
            "row_security": self.row_security,
            "run_needs": self.run_needs,
        }


def status(target: Target, *, database: str | Database | None = None) -> Status:
    """Counts the rows of the target with and without a vector. The role needs only SELECT.

    Without a text in the target, rows with nothing to embed count as missing.

    Args:
        target: what to count.
        database: connection string; None takes libpq's environment.

    Raises:
        ConfigError: no database; no such table or column; SQL of the target that does not parse; row-level security
            hides every row from the role.
    """
    place = database if isinstance(database, Database) else Database.resolve(database)
    with wrap_driver_errors(), closing(Session.connect(place)) as session:
        return session.run(lambda connection: _counted(connection, target))


def _counted(connection: Connection, target: Target) -> Status:
    relation = inspect(connection, target, text_needed=False, key_needed=False)
    check_sql(connection, relation, MISSING, writing=False)
    check_visible(connection, relation)
    coverage = survey(connection, relation, exact=True).coverage
    return Status(
        table=relation.table.label,
        coverage=coverage,
        row_security=relation.access.policies,
        run_needs=_run_needs(connection, target),
    )


def _run_needs(connection: Connection, target: Target) -> str | None:
    """Makes the checks of a run that read nothing; a status without a text says nothing about the text."""
    try:
        relation = inspect(connection, target, text_needed=False)
        check_writable(relation)
        check_sql(connection, relation, MISSING)
    except ConfigError as error:
        return str(error)
    return None
