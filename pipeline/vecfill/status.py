"""What ``vecfill status`` does: the coverage of a target, by the same SQL that a run plans with."""

from __future__ import annotations

from vecfill.backfill.checks import check_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.selection import MISSING
from vecfill.postgres.target import Target, inspect
from vecfill.read.survey import Coverage, survey


def coverage(connection: Connection, target: Target) -> tuple[str, Coverage]:
    """Returns ``schema.table`` and how full its embedding column is; SELECT is all the right that it needs.

    Without a text in the target, rows that have nothing to embed count as missing.

    Raises:
        ConfigError: the target cannot be what it is said to be.
    """
    relation = inspect(connection, target, text_needed=False, key_needed=False)
    check_sql(connection, relation, MISSING, writing=False)
    return relation.table.label, survey(connection, relation, exact=True).coverage
