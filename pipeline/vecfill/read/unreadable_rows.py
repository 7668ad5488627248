"""Finds the rows that make a statement fail while it reads, so that all others are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from vecfill.bisection import SharedFaultError, isolate
from vecfill.errors import DatabaseError, TooSlowError, VecfillError
from vecfill.postgres import driver_errors, read_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation, without_user_sql, without_where
from vecfill.postgres.transaction import transaction
from vecfill.read.units import PageRange, RowList, RowUnit

Rows = list[tuple[Any, ...]]

Fetch = Callable[[RowUnit, Relation], Rows]
"""Runs one statement over a part of a unit."""

_TUPLE_BYTES = 28
"""Fewest bytes of a row in a heap page: the place of a row in its page is below ``block bytes / 28``."""


MAX_UNREADABLE = 1_000
"""Most unreadable rows that a whole table may have, each found by up to a few dozen statements: more share a cause."""

PAGES_TRIED = 4
"""Pages in which to look for a row that is readable, before a fault on many rows counts as one on all."""


class UnreadableRowError(VecfillError):
    """The server cannot evaluate the statement on one row; ``rows`` is its result without the user's SQL."""

    def __init__(self, message: str, rows: Rows | None = None) -> None:
        super().__init__(message)
        self.rows = rows or []


class _SlowPageError(VecfillError):
    """A page takes too long; its rows are not tried one by one."""


def is_row_fault(error: Exception) -> bool:
    """Whether a row may have caused the error: the user's SQL fails on it, or its bytes are no text."""
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return False  # the user's SQL writes
    return isinstance(error, UnicodeDecodeError) or (
        isinstance(error, psycopg.Error) and driver_errors.is_row_fault(error)
    )


def read_around(
    unit: RowUnit,
    pages: int,
    relation: Relation,
    fetch: Fetch,
    failed: Exception | None = None,
    *,
    works: bool = False,
) -> Iterator[tuple[Rows, UnreadableRowError | None]]:
    """Bisects a unit on which ``fetch`` fails or takes too long because of a row, in no particular order.

    A row that is unreadable but not to be read, such as one with a vector, is left out: then its statement without the
    user's SQL has no result.

    Args:
        unit: what to read.
        pages: heap pages of its leaf.
        relation: the target.
        fetch: runs the statement over a part.
        failed: the error of the whole unit, which then is not tried again.
        works: ``fetch`` is known to work on other rows.

    Yields:
        The rows of a readable part and None, or those of one unreadable row and its error.

    Raises:
        SharedFaultError: the statement fails on all rows that were tried.
    """
    places = _Places.of(unit, pages, relation.access.server.block_bytes)

    def attempt(some: slice) -> Rows:
        part = places.part(some)
        try:
            if failed and some == slice(0, places.count):
                raise failed
            return fetch(part, relation)
        except Exception as error:
            if some.stop - some.start > 1 or not _may_be_one_rows(error):
                raise
            if not (rows := _alone(part, relation, fetch)):
                return []
            raise UnreadableRowError(server_message(error), rows) from error

    for _, outcome in isolate(places.count, attempt, _may_be_one_rows, proves=bool, succeeded=works, slow=is_slow):
        if not isinstance(outcome, Exception):
            yield outcome, None
        else:
            assert isinstance(outcome, UnreadableRowError)  # noqa: S101
            yield outcome.rows, outcome


def is_slow(error: BaseException) -> bool:
    """Whether a time limit ended the statement, on one row or more."""
    return isinstance(error.__cause__ if isinstance(error, UnreadableRowError) else error, TooSlowError)


def _may_be_one_rows(error: Exception) -> bool:
    return isinstance(error, (UnreadableRowError, TooSlowError)) or is_row_fault(error)


def _alone(row: RowUnit, relation: Relation, fetch: Fetch) -> Rows:
    """Runs the statement on one row without ``where``, or if that fails too without any SQL of the user's.

    A row without a text is not to be read, whatever ``where`` says of it: the server may not even ask that.

    Raises:
        DatabaseError: it fails too.
    """
    if relation.user_sql.where is not None:
        try:
            return fetch(row, without_where(relation))
        except Exception as error:
            if not _may_be_one_rows(error):
                raise
    try:
        return fetch(row, without_user_sql(relation))
    except Exception as error:
        if not _may_be_one_rows(error):
            raise
        page, offset = row.tids[0] if isinstance(row, RowList) else (row.first_page, row.first_offset)
        raise DatabaseError(
            f"not even the key of the row at ctid ({page},{offset}) of {relation.table.label} can be read: "
            f"{server_message(error)}: correct the row, or exclude it with --where"
        ) from error


def read_one(connection: Connection, relation: Relation, unit: RowUnit) -> Rows:
    """Reads one row of a part, whether it has a vector or not; none if ``where`` selects no row there."""
    bounds, leaf = unit.bounds(), relation.table.leaves[unit.leaf]
    query, parameters = read_sql.read_one(relation, leaf, tuple(bounds)), tuple(bounds.values())
    with transaction(connection, relation.reading(leaf), read_only=True, first=query, parameters=parameters) as cursor:
        return cursor.fetchall()


def works_on_some_row(relation: Relation, fetch: Fetch) -> bool:
    """Whether ``fetch`` works on a row of a few pages all over the table; it must not take too long there.

    Many unreadable rows may lie together, and may be the only ones without a vector.
    """

    def quickly(part: RowUnit, some: Relation) -> Rows:
        try:
            return fetch(part, some)
        except TooSlowError as error:
            raise _SlowPageError from error

    spread = [
        (position, leaf.pages * part // PAGES_TRIED)
        for position, leaf in enumerate(relation.table.leaves)
        for part in range(PAGES_TRIED)
    ]
    for leaf, page in dict.fromkeys(spread[:: len(relation.table.leaves)]):
        unit = PageRange(leaf=leaf, first_page=page, end_page=page + 1, rows=1)
        try:
            if any(rows and not error for rows, error in read_around(unit, page + 1, relation, quickly)):
                return True
        except (SharedFaultError, _SlowPageError):
            continue
    return False


@dataclass(frozen=True)
class _Places:
    """The places of rows in a unit as numbers from 0: of a list its rows, of a range all places in its heap pages.

    The end of a range is closed: rows that arrive later are for the next sweep.
    """

    unit: RowUnit
    count: int
    first: int = 0
    per_page: int = 1

    @classmethod
    def of(cls, unit: RowUnit, pages: int, block_bytes: int) -> _Places:
        if isinstance(unit, RowList):
            return cls(unit, len(unit.tids))
        per_page = block_bytes // _TUPLE_BYTES + 1
        first = unit.first_page * per_page + unit.first_offset
        end_page = max(pages, unit.first_page + 1) if unit.end_page is None else unit.end_page
        return cls(unit, max(1, end_page * per_page + unit.end_offset - first), first, per_page)

    def part(self, some: slice) -> RowUnit:
        if isinstance(self.unit, RowList):
            return replace(self.unit, tids=self.unit.tids[some])
        first_page, first_offset = divmod(self.first + some.start, self.per_page)
        end_page, end_offset = divmod(self.first + some.stop, self.per_page)
        return replace(
            self.unit,
            first_page=first_page,
            first_offset=first_offset,
            end_page=end_page,
            end_offset=end_offset,
        )
