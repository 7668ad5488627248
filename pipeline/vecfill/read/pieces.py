"""Reads a part of a leaf in pieces that the server's time limits allow, and around rows that cannot be read."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import psycopg

from vecfill.bisection import SharedFaultError
from vecfill.errors import DatabaseError, TooSlowError
from vecfill.ledger.queue import Apply, Bounds
from vecfill.postgres import read_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.timeouts import setting_of, timed_out, transaction_timeout_named
from vecfill.postgres.transaction import transaction
from vecfill.read.units import PageRange, RowList, RowUnit
from vecfill.read.unreadable_rows import (
    Fetch,
    Rows,
    UnreadableRowError,
    is_row_fault,
    is_slow,
    read_around,
    read_one,
    works_on_some_row,
)

T = TypeVar("T")

AFTER_A_TIMEOUT = 8
"""Divides the size after a timeout: each attempt takes as long, and if it ended the connection too, few are left."""


class Pieces:
    """Runs a statement over a unit, in smaller pieces after a timeout; the next units begin with the size that worked.

    A row that makes the statement fail, or that alone takes too long, is read on its own.

    Attributes:
        most: heap pages or listed rows that a piece may have.
        works: whether the user's SQL is known to work on some row.
        divided: whether a unit was read by several statements. A row that moves from one part to another meanwhile may
            be in none of them.
    """

    def __init__(self) -> None:
        self.most = sys.maxsize
        self.works = False
        self.divided = False

    def read(
        self, connection: Connection, relation: Relation, unit: RowUnit, fetch: Fetch
    ) -> Iterator[tuple[Rows, UnreadableRowError | None]]:
        """Yields what ``fetch`` returns for each piece, in the order of the table, and None.

        A piece with an unreadable row comes in parts, in no particular order; for that row alone the error comes with
        what ``fetch`` returns without the user's SQL.

        Args:
            connection: that ``fetch`` uses.
            relation: the target.
            unit: what to read.
            fetch: runs one statement; called again for the pieces of a unit after a timeout.

        Raises:
            DatabaseError: a page takes too long, and the time limit ended the connection.
            SharedFaultError: the statement fails, or takes too long, on all rows that were tried.
            psycopg.OperationalError: the time limit ended the connection: repeat all on another one.
        """
        pages = _pages(connection, relation, unit) if self.most < sys.maxsize else 0
        pending = [unit]
        while pending:
            piece = pending.pop()
            if _size(piece, pages) > self.most and (halves := _halves(piece, pages)):
                pending += reversed(halves)
                self.divided = True
                continue
            try:
                found = self._in_time(connection, relation, piece, fetch)
            except Exception as error:
                if not is_slow(error) and not is_row_fault(error):
                    raise
                self.divided = True
                pages = _pages(connection, relation, unit)
                if is_slow(error) and (halves := _halves(piece, pages)):
                    pending += reversed(halves)
                else:
                    yield from self._around(connection, relation, piece, fetch, error)
            else:
                self.works = self.works or bool(found)
                yield found, None

    def _around(
        self, connection: Connection, relation: Relation, piece: RowUnit, fetch: Fetch, failed: Exception
    ) -> Iterator[tuple[Rows, UnreadableRowError | None]]:
        def in_time(part: RowUnit, some: Relation) -> Rows:
            return self._in_time(connection, some, part, fetch)

        def try_one(part: RowUnit, some: Relation) -> Rows:
            return self._in_time(connection, some, part, lambda part, some: read_one(connection, some, part))

        pages, last = _pages(connection, relation, piece), None
        self.works = self.works or works_on_some_row(relation, try_one)
        for found, error in read_around(piece, pages, relation, in_time, failed, works=self.works):
            self.works, last = self.works or (bool(found) and not error), error or last
            yield found, error
        if last and not self.works:
            raise SharedFaultError("every row failed") from last

    def at_once(
        self, connection: Connection, relation: Relation, unit: RowUnit, fetch: Callable[[RowUnit, Relation], T]
    ) -> T | None:
        """Returns what ``fetch`` returns for the unit; None if that takes too long, now or before, for another way.

        Raises:
            DatabaseError, psycopg.OperationalError: as in ``read``.
        """
        if self.most < sys.maxsize:
            return None
        try:
            return self._in_time(connection, relation, unit, fetch)
        except TooSlowError:
            return None

    def _in_time(
        self, connection: Connection, relation: Relation, piece: RowUnit, fetch: Callable[[RowUnit, Relation], T]
    ) -> T:
        """Returns what ``fetch`` returns.

        Raises:
            TooSlowError: a time limit ended it; the next pieces are smaller.
        """
        server = relation.access.server
        started = time.perf_counter()
        try:
            with transaction_timeout_named(server.transaction_timeout_ms):
                return fetch(piece, relation)
        except psycopg.Error as error:
            if not timed_out(error, time.perf_counter() - started, server.statement_timeout_ms):
                raise
            setting = setting_of(error)
            slow = TooSlowError(
                f"takes longer to read than {setting} allows: {server_message(error)}: make --where and --text faster, "
                f"or raise {setting} of role {server.role}"
            )
            self._adapt(connection, relation, error, piece, slow)
            raise slow from error

    def _adapt(
        self, connection: Connection, relation: Relation, error: psycopg.Error, piece: RowUnit, slow: TooSlowError
    ) -> None:
        """Makes the next pieces smaller.

        Raises:
            DatabaseError: no smaller one is possible on another connection.
            psycopg.OperationalError: repeat all on another connection.
        """
        pages = relation.table.leaves[piece.leaf].pages if connection.closed else _pages(connection, relation, piece)
        if connection.closed and not _halves(piece, pages):
            raise DatabaseError(f"a page of {relation.table.label} {slow}") from error
        self.most = max(1, _size(piece, pages) // AFTER_A_TIMEOUT)
        if connection.closed:
            raise psycopg.OperationalError(server_message(error)) from error


def applied(connection: Connection, relation: Relation, position: int) -> Apply:
    """Runs statements over a leaf, or a queue, in the pieces that time limits and unreadable rows ask for."""
    pieces = Pieces()

    def apply(first: int, end: int | None, run: Callable[[Bounds, Relation], int]) -> int:
        unit = PageRange(leaf=position, first_page=first, end_page=end, rows=0)
        found = pieces.read(connection, relation, unit, lambda part, some: [(run(part.bounds(), some),)])
        return sum(rows[0][0] for rows, _ in found)

    return apply


def page_ranges(relation: Relation, pages: int) -> Iterator[PageRange]:
    """Yields ranges of heap pages that cover every leaf of a target; the last of each leaf has no end."""
    for number, leaf in enumerate(relation.table.leaves):
        starts = range(0, max(1, leaf.pages), pages)
        for start in starts:
            end = None if start == starts[-1] else start + pages
            yield PageRange(leaf=number, first_page=start, end_page=end, rows=0)


def _pages(connection: Connection, relation: Relation, unit: RowUnit) -> int:
    """Heap pages of the unit's leaf now: every update of the run has added to them."""
    leaf = relation.table.leaves[unit.leaf]
    with transaction(connection, read_only=True, first=read_sql.heap_bytes(leaf)) as cursor:
        row = cursor.fetchone()
    return row[0] // relation.access.server.block_bytes if row else leaf.pages


def _size(unit: RowUnit, pages: int) -> int:
    """Heap pages of a unit in a leaf of ``pages`` pages, or its listed rows."""
    return len(unit.tids) if isinstance(unit, RowList) else max(1, _end(unit, pages) - unit.first_page)


def _halves(unit: RowUnit, pages: int) -> tuple[RowUnit, ...]:
    """Splits a unit between pages or listed rows; empty for a single one."""
    if isinstance(unit, RowList):
        middle = len(unit.tids) // 2
        parts = (unit.tids[:middle], unit.tids[middle:]) if middle else ()
        return tuple(replace(unit, tids=tids) for tids in parts)
    middle = (unit.first_page + _end(unit, pages) + 1) // 2
    if middle == unit.first_page or (unit.end_page is not None and middle >= unit.end_page):
        return ()
    return replace(unit, end_page=middle, end_offset=0), replace(unit, first_page=middle, first_offset=0)


def _end(unit: PageRange, pages: int) -> int:
    return max(pages, unit.first_page) if unit.end_page is None else unit.end_page
