"""A cheap look: may a target hold work? For a program that asks every half second, so it never scans the table.

A tracked target is asked for its queue. Otherwise partial indexes over the rows without a vector name them; where one
is missing, the server's counters of inserted and updated rows tell whether a scan may be worth its cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from vecfill.postgres import queue_table_sql, read_sql
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.transaction import transaction
from vecfill.read.partial_index import FORCED, is_listed
from vecfill.read.unreadable_rows import is_row_fault

INDEX_PAGES = 2
"""Pages that one look reads of a partial index without entries: its first page and its root."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look found.

    Attributes:
        rows: entries of a queue, or 1 if there may be work; 0 if there is none.
        oldest_s: age of the oldest entry in seconds; None if that is not known.
        pages: pages that the look read, about; an expensive look is to be repeated less often.
        scans: finding the rows takes a scan of the table.
    """

    rows: int
    oldest_s: float | None = None
    pages: int = 1
    scans: bool = False


class Lookout:
    """Looks at a target that is not tracked, again and again."""

    def __init__(self) -> None:
        self._listed: bool | None = None
        self._counted: tuple[int, int] | None = None
        self._pages: int | None = None

    def look(
        self, connection: Connection, relation: Relation, selection: Selection, excluded: Sequence[str] = ()
    ) -> Look:
        """Looks for eligible rows; ``excluded`` are keys to pass over.

        A look that needs a scan says that there may be work once after each change of the counters, and at first.
        """
        if self._listed is None:
            leaves = relation.table.leaves
            self._listed = all(is_listed(connection, relation, selection, leaf) for leaf in leaves)
        if not self._listed:
            before, self._counted = self._counted, _writes(connection, relation)
            return Look(rows=int(before is None or before != self._counted), scans=True)
        found = any(_has_open_row(connection, relation, selection, leaf, excluded) for leaf in relation.table.leaves)
        return Look(rows=int(found), pages=INDEX_PAGES * len(relation.table.leaves) + len(excluded))

    def look_at_queue(self, connection: Connection, relation: Relation) -> Look:
        """Looks for entries that wait in a queue table of the application's own."""
        has_work = queue_table_sql.has_work(relation)
        settings = FORCED | relation.access.reading  # statistics from when most entries waited make the planner scan
        with transaction(connection, settings, read_only=True) as cursor:
            if self._pages is None:
                plan = cursor.execute(sql.SQL("EXPLAIN {}").format(has_work), ()).fetchall()
                scans = any("Seq Scan" in line for (line,) in plan)
                self._pages = _pages_of(cursor, relation) if scans else INDEX_PAGES
            found = cursor.execute(has_work, ()).fetchone()
        return Look(rows=int(bool(found and found[0])), pages=self._pages)


def _pages_of(cursor: Cursor, relation: Relation) -> int:
    name = relation.queue_table.name.as_string()
    row = cursor.execute("SELECT pg_catalog.pg_relation_size($1::pg_catalog.regclass)", (name,)).fetchone()
    return int(row[0]) // relation.access.server.block_bytes if row else 0


def _has_open_row(
    connection: Connection, relation: Relation, selection: Selection, leaf: Leaf, excluded: Sequence[str]
) -> bool:
    bounds, values = (("excluded",), (list(excluded),)) if excluded else ((), ())
    query = read_sql.read(selection, relation, leaf, bounds)
    settings = FORCED | relation.reading(leaf)
    try:
        with transaction(connection, settings, read_only=True, first=query, parameters=(1, *values)) as cursor:
            return cursor.fetchone() is not None
    except Exception as error:
        if not is_row_fault(error):
            raise
        return True  # the drain finds out which row it is


def _writes(connection: Connection, relation: Relation) -> tuple[int, int]:
    """Rows inserted and updated so far, and the tables that exist: one that was dropped has written none, too."""
    with transaction(connection, read_only=True) as cursor:
        row = cursor.execute(_WRITES, ([leaf.oid for leaf in relation.table.leaves],)).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


_WRITES = sql.SQL("""
SELECT COALESCE(pg_catalog.sum(pg_catalog.pg_stat_get_tuples_inserted(leaf)
  OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_tuples_updated(leaf)), 0)::pg_catalog.int8,
  pg_catalog.count(pg_catalog.pg_relation_filenode(leaf))
FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS leaf
""")
