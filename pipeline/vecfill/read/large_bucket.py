"""Splits a part of the survey that holds more text than a block may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vecfill.postgres import read_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.session import transaction
from vecfill.read.units import MAX_BLOCK_BYTES, MAX_BLOCK_ROWS, Bucket, Tid


def split_large_bucket(
    connection: Connection, relation: Relation, selection: Selection, bucket: Bucket, excluded: Sequence[str]
) -> Iterator[Bucket]:
    """Splits a bucket with more text than a block may hold, between rows: a page can hold 291 rows of 1 GB each."""
    if bucket.bytes <= MAX_BLOCK_BYTES:
        yield bucket
        return
    bounds: dict[str, Any] = {
        "from": f"({bucket.first_page},0)",
        "to": f"({bucket.first_page + bucket.pages},0)",
        "excluded": list(excluded),
    }
    query = read_sql.split_rows(selection, relation, relation.table.leaves[bucket.leaf], tuple(bounds))
    parameters = (MAX_BLOCK_BYTES // 2, MAX_BLOCK_ROWS, *bounds.values())
    settings = relation.reading(relation.table.leaves[bucket.leaf])
    with transaction(connection, settings, read_only=True, first=query, parameters=parameters) as cursor:
        runs = cursor.fetchall()
    starts = [bucket.first, *(parse_tid(tid) for tid, _, _ in runs[1:])]
    ends = [*starts[1:], bucket.end]
    for (page, offset), (end_page, end_offset), (_, rows, size) in zip(starts, ends, runs, strict=False):
        yield Bucket(
            leaf=bucket.leaf,
            first_page=page,
            first_offset=offset,
            pages=end_page - page,
            end_offset=end_offset,
            rows=rows,
            bytes=size,
        )


def parse_tid(tid: str) -> Tid:
    """Parses the server's text of a row's place."""
    page, _, offset = tid.strip("()").partition(",")
    return int(page), int(offset)
