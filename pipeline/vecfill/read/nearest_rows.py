"""The rows nearest to a vector in a table with unreadable rows: compares every row, part by part."""

from __future__ import annotations

import logging
from typing import Any

from vecfill.bisection import SharedFaultError
from vecfill.postgres import search_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.search_sql import Measure
from vecfill.postgres.transaction import transaction
from vecfill.read.pieces import Pieces
from vecfill.read.units import PageRange, RowUnit
from vecfill.read.unreadable_rows import MAX_UNREADABLE, Rows, is_row_fault
from vecfill.read.user_sql_errors import explain_user_sql_errors

log = logging.getLogger(__name__)

_SETTINGS = {"enable_indexscan": "off"}
"""A vector index returns the nearest rows of the table, which may not be those of the part."""

_UNREADABLE: tuple[Any, ...] = ()


def nearest_readable_rows(
    connection: Connection,
    relation: Relation,
    schema: str,
    measure: Measure,
    *,
    show: tuple[str, ...],
    values: tuple[Any, ...],
) -> Rows:
    """Returns at least the nearest rows as ``search_sql.nearest`` does, and perhaps more, in no particular order.

    Leaves out, with a warning, the rows on which ``where`` fails. If only the columns to show are unreadable, they are
    None.

    Raises:
        ConfigError: ``where`` fails on all rows, or on very many.
    """

    def run(part: RowUnit, shown: tuple[str, ...]) -> Rows:
        bounds, leaf = part.bounds(), relation.table.leaves[part.leaf]
        query = search_sql.nearest_in_part(relation, schema, measure, shown, leaf=leaf, bounds=tuple(bounds))
        parameters = (*values, *bounds.values())
        with transaction(connection, _SETTINGS, read_only=True, first=query, parameters=parameters) as cursor:
            return cursor.fetchall()

    def fetch(part: RowUnit, some: Relation) -> Rows:
        if some is relation:
            return run(part, show)
        try:
            return [(*row, *[None] * len(show)) for row in run(part, ())]
        except Exception as error:
            if not is_row_fault(error):
                raise
            return [_UNREADABLE]

    found: Rows = []
    left_out, message = 0, ""
    with explain_user_sql_errors(relation):
        for position in range(len(relation.table.leaves)):
            whole = PageRange(leaf=position, first_page=0, end_page=None, rows=0)
            for rows, error in Pieces().read(connection, relation, whole, fetch):
                found += [row for row in rows if row]
                left_out, message = left_out + (_UNREADABLE in rows), message or str(error or "")
                if left_out > MAX_UNREADABLE:
                    raise SharedFaultError(f"more than {MAX_UNREADABLE} rows fail") from error
    if left_out:
        log.warning(
            "rows of %s that cannot be read and are left out: %d; the first error: %s",
            *(relation.table.label, left_out, message),
            extra={"target": relation.table.label, "rows": left_out},
        )
    return found
