"""How full a target with a queue table is: counted in one scan, or estimated where a scan costs more than the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vecfill.postgres import queue_table_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.target_sql import Query
from vecfill.postgres.transaction import transaction
from vecfill.read.survey import Coverage
from vecfill.read.unreadable_rows import is_row_fault


@dataclass(frozen=True)
class Overview:
    """Rows of a target with a queue table.

    Attributes:
        total: all rows that ``where`` selects.
        filled: rows with a vector.
        empty: rows without a vector and without a text.
        lost, unnamed: as in ``QueueFindings``.
    """

    total: int
    filled: int
    empty: int
    lost: int
    unnamed: int


def overview(connection: Connection, relation: Relation, selection: Selection) -> Overview | None:
    """Counts the target's rows in one scan; None if the user's SQL fails on a row.

    Args:
        connection: to the target's database.
        relation: the target, with its queue table.
        selection: of the missing rows.
    """
    try:
        return Overview(*row_of(connection, relation, queue_table_sql.overview(selection, relation)))
    except Exception as error:
        if not is_row_fault(error):
            raise
        return None


def counted(coverage: Coverage, rows: Overview) -> Coverage:
    """Returns a coverage of the rows that pending entries name with the counts of the whole table."""
    without = rows.total - rows.filled - rows.empty
    unqueued = max(0, without - coverage.missing)
    return replace(coverage, total=rows.total, filled=rows.filled, empty=rows.empty, unqueued=unqueued, estimated=False)


def estimated(connection: Connection, relation: Relation, coverage: Coverage) -> Coverage:
    """Returns a coverage with the planner's estimate of the rows with a vector; the others are not counted."""
    table = relation.table
    query = queue_table_sql.null_fraction(relation)
    with transaction(connection, relation.access.reading, read_only=True, first=query) as cursor:
        row = cursor.fetchone()
    if row is None or table.vector.not_null:
        return replace(coverage, unqueued=None)
    without = round(coverage.total * float(row[0])) - coverage.missing - coverage.empty
    return replace(coverage, filled=max(0, coverage.filled - max(0, without)), unqueued=None)


def row_of(connection: Connection, relation: Relation, query: Query) -> tuple[Any, ...]:
    """Returns the first row of a query on a queue table."""
    with transaction(connection, relation.access.reading, read_only=True, first=query) as cursor:
        return cursor.fetchall()[0]
