"""Few missing rows in a big table: list them from a partial index, or suggest one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vecfill.postgres import read_sql
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.transaction import transaction
from vecfill.wording import count_of

MAX_LISTED = 20_000
"""Most row places of a leaf that the driver holds."""

PAGES_PER_ROW = 4
"""Heap pages of a leaf per listed row: a listed row costs one heap page and some index pages, read at random, while a
scan reads pages in order."""

BIG_PAGES = 10_000
"""Heap pages of a leaf (80 MB) above which a full count for a few rows is worth a hint."""

FORCED = {"enable_seqscan": "off", "max_parallel_workers_per_gather": "0"}
"""Makes the planner use the index if it can: we limit the number of rows ourselves instead of trusting estimates."""

Listed = list[tuple[str, str, int]]


def max_listed_rows(leaf: Leaf) -> int:
    """Returns the most rows of a leaf to list; above that a scan is cheaper."""
    return min(MAX_LISTED, leaf.pages // PAGES_PER_ROW)


def list_open_rows(
    connection: Connection, relation: Relation, selection: Selection, leaf: Leaf, excluded: Sequence[str]
) -> Listed | None:
    """Lists the open rows of a leaf from a partial index: tid, state, and bytes of text.

    Returns:
        The rows; None if no partial index serves, if there are too many, or if a tid is ambiguous.
    """
    most = max_listed_rows(leaf)
    if not leaf.partial or not leaf.only or not most:
        return None
    with transaction(connection, FORCED | relation.access.reading, read_only=True) as cursor:
        if not _is_listed(cursor, relation, selection, leaf):
            return None
        query = read_sql.list_open_rows(selection, relation, leaf, excluded=bool(excluded))
        rows: Listed = cursor.execute(query, (most + 1, *([list(excluded)] if excluded else []))).fetchall()
    return rows if len(rows) <= most else None


def is_listed(connection: Connection, relation: Relation, selection: Selection, leaf: Leaf) -> bool:
    """Whether a partial index lists the open rows of a leaf."""
    if not leaf.partial or not leaf.only:
        return False
    with transaction(connection, FORCED | relation.access.reading, read_only=True) as cursor:
        return _is_listed(cursor, relation, selection, leaf)


def _is_listed(cursor: Cursor, relation: Relation, selection: Selection, leaf: Leaf) -> bool:
    row = cursor.execute(read_sql.explain_open_rows(selection, relation, leaf), ()).fetchone()
    return row is not None and bool(set(leaf.partial) & set(_index_names(row[0][0]["Plan"])))


def _index_names(plan: dict[str, Any]) -> Iterator[str]:
    """Yields the names of the indexes that a plan reads."""
    if name := plan.get("Index Name"):
        yield name
    for child in plan.get("Plans", ()):
        yield from _index_names(child)


def suggested_index(relation: Relation, without_vector: int) -> str | None:
    """Returns the DDL of an index that avoids the full count, if few rows of a big table lack a vector, else None.

    Args:
        relation: the target.
        without_vector: missing and empty rows that a scan counted.
    """
    lacking = [leaf for leaf in relation.table.leaves if leaf.only and not leaf.partial]
    biggest = max(lacking, key=lambda leaf: leaf.pages, default=None)
    if biggest is None or biggest.pages < BIG_PAGES or without_vector > max_listed_rows(biggest):
        return None
    more = f" -- likewise on {count_of(len(lacking) - 1, 'other partition')}" if len(lacking) > 1 else ""
    return read_sql.suggested_index(relation, biggest).as_string() + more
