"""Draws the sample of stored vectors that shows whether the model made them."""

from __future__ import annotations

from vecfill.postgres import checks_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.transaction import transaction
from vecfill.read.pieces import Pieces
from vecfill.read.units import PageRange, RowUnit
from vecfill.read.unreadable_rows import Rows, is_row_fault
from vecfill.read.user_sql_errors import explain_user_sql_errors

SAMPLE_ROWS = 32
"""Vectors recomputed before the first write: enough to tell another model (cosines near 0) from edited texts."""

SAMPLE_PAGES = 200
"""Heap pages that the sample comes from, so that it does not hold only the oldest rows."""

MOST_SAMPLE_PAGES = 10 * SAMPLE_PAGES
"""Heap pages (16 MiB) that the sample may read if an index named the missing rows and few filled ones are found."""

Sample = tuple[tuple[str, tuple[float, ...]], ...]


def draw_sample(connection: Connection, relation: Relation, selection: Selection, *, scanned: bool) -> Sample:
    """Returns texts and vectors of filled rows that ``where`` selects, from pages all over the table.

    Args:
        connection: to the target's database.
        relation: the target.
        selection: the rows to take; the others count as filled.
        scanned: the survey read the whole table, so the sample may too; otherwise it reads MOST_SAMPLE_PAGES.
    """
    with explain_user_sql_errors(relation):
        try:
            rows = _sampled_pages(connection, relation, selection, scanned=scanned)
        except Exception as error:
            if not is_row_fault(error):
                raise
            rows = _sampled_around(connection, relation, selection)
    return tuple((text, tuple(vector)) for text, vector in rows)


def _sampled_pages(connection: Connection, relation: Relation, selection: Selection, *, scanned: bool) -> Rows:
    pages = sum(leaf.pages for leaf in relation.table.leaves)
    found: Rows = []
    for most in (SAMPLE_PAGES, pages if scanned else MOST_SAMPLE_PAGES):
        found = _sample(connection, relation, selection, None if most >= pages else 100.0 * most / pages)
        if most >= pages or len(found) >= SAMPLE_ROWS // 2:
            break
    return found


def _sample(connection: Connection, relation: Relation, selection: Selection, percent: float | None) -> Rows:
    with transaction(connection, relation.access.reading, read_only=True) as cursor:
        return cursor.execute(checks_sql.sample(selection, relation, percent=percent), (SAMPLE_ROWS,)).fetchall()


def _sampled_around(connection: Connection, relation: Relation, selection: Selection) -> Rows:
    """Samples around unreadable rows, of which it skips at most SAMPLE_ROWS."""
    found: Rows = []
    skipped = 0

    def fetch(part: RowUnit, some: Relation) -> Rows:
        nonlocal skipped
        skipped += some is not relation  # the row alone, which is unreadable
        if some is not relation or SAMPLE_ROWS in (len(found), skipped):
            return []
        bounds = part.bounds()
        query = checks_sql.sample_part(selection, relation, relation.table.leaves[part.leaf], tuple(bounds))
        parameters = (SAMPLE_ROWS - len(found), *bounds.values())
        reading = relation.access.reading
        with transaction(connection, reading, read_only=True, first=query, parameters=parameters) as cursor:
            return cursor.fetchall()

    for position, leaf in enumerate(relation.table.leaves):
        if leaf.queue:
            continue
        whole = PageRange(leaf=position, first_page=0, end_page=None, rows=0)
        for rows, _ in Pieces().read(connection, relation, whole, fetch):
            found += rows
    return found
