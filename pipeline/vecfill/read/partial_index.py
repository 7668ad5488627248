"""Few rows missing among many: found through a partial index, or, where none helps, the index that would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vecfill.postgres import read_sql
from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.session import transaction

MAX_LISTED = 20_000
"""Most rows of a leaf whose places the driver holds."""

PAGES_PER_ROW = 4
"""Pages of a leaf for each row that may be listed: a row costs a page of the heap and some of the index, in no order,
and a scan reads pages in order."""

BIG_PAGES = 10_000
"""Heap pages of a leaf (80 MB) from which on counting it for a few rows is worth a word."""

_FORCED = {"enable_seqscan": "off", "max_parallel_workers_per_gather": "0"}
"""Makes the planner show whether the index serves at all; how many rows it finds is bounded by us, not by estimates."""

Listed = list[tuple[str, str, int]]


def max_listed_rows(leaf: Leaf) -> int:
    """The most rows of a leaf that are listed rather than found by a scan."""
    return min(MAX_LISTED, leaf.pages // PAGES_PER_ROW)


def list_open_rows(
    connection: Connection, relation: Relation, selection: Selection, leaf: Leaf, excluded: Sequence[str]
) -> Listed | None:
    """The open rows of a leaf, as a partial index lists them: tid, state, and bytes of text.

    Returns:
        None where no partial index names them, where there are too many, and where a tid could mean several rows.
    """
    most = max_listed_rows(leaf)
    if not leaf.partial or not leaf.only or not most:
        return None
    with transaction(connection, _FORCED | relation.access.reading, read_only=True) as cursor:
        row = cursor.execute(read_sql.explain_open_rows(selection, relation, leaf), ()).fetchone()
        if row is None or not set(leaf.partial) & set(_index_names(row[0][0]["Plan"])):
            return None
        query = read_sql.list_open_rows(selection, relation, leaf, excluded=bool(excluded))
        rows: Listed = cursor.execute(query, (most + 1, *([list(excluded)] if excluded else []))).fetchall()
    return rows if len(rows) <= most else None


def _index_names(plan: dict[str, Any]) -> Iterator[str]:
    """Names of the indexes that a plan reads."""
    if name := plan.get("Index Name"):
        yield name
    for part in plan.get("Plans", ()):
        yield from _index_names(part)


def suggested_index(relation: Relation, without_vector: int) -> str | None:
    """DDL of the index that would spare the count, where few rows miss a vector in a big table; None elsewhere.

    Args:
        relation: the target.
        without_vector: rows that a scan found to be missing or empty.
    """
    lacking = [leaf for leaf in relation.table.leaves if leaf.only and not leaf.partial]
    biggest = max(lacking, key=lambda leaf: leaf.pages, default=None)
    if biggest is None or biggest.pages < BIG_PAGES or without_vector > max_listed_rows(biggest):
        return None
    more = f" -- and so on the other {len(lacking) - 1} partitions" if len(lacking) > 1 else ""
    return read_sql.suggested_index(relation, biggest).as_string() + more
