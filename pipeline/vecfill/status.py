"""What ``vecfill status`` does: the coverage of a target, by the same SQL that a run plans with."""

from __future__ import annotations

from vecfill.postgres.session import Connection
from vecfill.postgres.target import Target, inspect
from vecfill.preflight import check_sql
from vecfill.read.survey import Coverage, survey


def coverage(connection: Connection, target: Target) -> tuple[str, Coverage]:
    """Returns ``schema.table`` and how full its embedding column is.

    Raises:
        ConfigError: the target cannot be what it is said to be.
    """
    relation = inspect(connection, target)
    check_sql(connection, relation)
    return relation.label, survey(connection, relation).coverage
