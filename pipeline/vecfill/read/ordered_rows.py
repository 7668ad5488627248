"""The eligible rows in an order that the user gives as SQL, as blocks: a block's rows come before those of the next.

The server sorts, or follows an index. This process keeps the place of each row in eight bytes: 80 MB for ten million.
"""

from __future__ import annotations

import functools
import itertools
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import psycopg
from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.postgres import order_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation, without_user_sql
from vecfill.postgres.selection import Selection
from vecfill.postgres.timeouts import setting_of, timed_out
from vecfill.postgres.transaction import transaction
from vecfill.read.pieces import Pieces
from vecfill.read.units import MAX_BLOCK_BYTES, Bucket, RowList, RowUnit, Tid, block_rows
from vecfill.read.unreadable_rows import Rows, is_row_fault

FETCHED = 10_000
"""Rows of one FETCH."""


class Places(Sequence[Tid]):
    """Places of rows, packed: page and number in the page in one integer, as the server sends them."""

    def __init__(self, packed: array[int]) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, at: int) -> Tid: ...

    @overload
    def __getitem__(self, at: slice) -> Places: ...

    def __getitem__(self, at: int | slice) -> Tid | Places:
        return Places(self._packed[at]) if isinstance(at, slice) else divmod(self._packed[at], 1 << 16)


@dataclass(frozen=True, kw_only=True)
class PartitionRows(RowList):
    """Rows of one partition, where the whole tree is one leaf: a place alone would name a row in each of them.

    Attributes:
        part: oid of the partition.
    """

    part: int

    def bounds(self) -> dict[str, Any]:
        """See ``RowList``."""
        return super().bounds() | {"part": [self.part]}


@dataclass(frozen=True, kw_only=True)
class OrderedRows:
    """A block of rows that follow each other in the order, by leaf; within it they come in any order.

    Attributes:
        parts: the rows of each leaf.
    """

    parts: tuple[RowList, ...]

    @property
    def limit(self) -> None:
        """It has just the rows to read."""

    @property
    def rows(self) -> int:
        """Eligible rows in it, when they were listed."""
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class OrderedList:
    """Lists the eligible rows of a target in an order.

    Attributes:
        relation: the target.
        selection: the rows to take.
        order: what follows ORDER BY.
        excluded: keys, as text from the server, whose rows are left out.
    """

    relation: Relation
    selection: Selection
    order: sql.Composable
    excluded: tuple[str, ...] = ()

    def blocks(
        self, connection: Connection, buckets: Sequence[Bucket], *, limit: int | None, most_rows: int
    ) -> list[OrderedRows]:
        """Lists the rows and cuts the list into blocks of ``block_rows`` rows and at most ``MAX_BLOCK_BYTES`` of text.

        Args:
            connection: to the target's database.
            buckets: from a survey: they tell which leaves, or the queue, have eligible rows.
            limit: the most rows in all blocks together.
            most_rows: the most rows of a block.

        Raises:
            ConfigError: the order fails on a row, or the server takes longer than a time limit of this role.
        """
        found = sum(bucket.rows for bucket in buckets)
        aim = block_rows(found if limit is None else min(found, limit), most_rows)
        started = time.perf_counter()
        try:
            return list(self._cut(self._listed(connection, buckets, limit), aim))
        except Exception as error:
            self._explain_timeout(error, started)
            if not is_row_fault(error):
                raise
        rows = self._blindly(connection, buckets)
        return list(self._cut(itertools.islice(self._eligible(connection, rows), limit), aim))

    def _blindly(self, connection: Connection, buckets: Sequence[Bucket]) -> list[array[int]]:
        """Lists every open row, whatever its text and ``where`` say, since they fail on one: leaves, places, bytes."""
        blind, columns = replace(self, relation=without_user_sql(self.relation)), [array("Q") for _ in range(3)]
        try:
            for row in blind._listed(connection, buckets, None):
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
        except Exception as error:
            if not is_row_fault(error):
                raise
            raise ConfigError(
                f"--order-by fails on a row of {self.relation.table.label}: {server_message(error)}: change it so that "
                "it works on every row"
            ) from error
        return columns

    def _listed(
        self, connection: Connection, buckets: Sequence[Bucket], limit: int | None
    ) -> Iterator[tuple[int, int, int]]:
        """Yields the leaf's oid, the packed place, and the bytes of text of each row."""
        relation, positions = self.relation, {bucket.leaf for bucket in buckets}
        leaf = relation.table.leaves[min(positions)]
        bounds = self._bounds(buckets, positions)
        query = order_sql.declare(self.selection, relation, self.order, leaf, tuple(bounds))
        settings = relation.reading(leaf) | {"cursor_tuple_fraction": "1"}
        with transaction(
            connection, settings, read_only=True, first=query, parameters=(limit, *bounds.values())
        ) as cursor:
            fetch = order_sql.FETCH.format(sql.Literal(FETCHED))
            while rows := cursor.execute(fetch).fetchall():
                for oid, place, size in rows:
                    if self._tree or oid in self._positions:  # else a partition that was attached meanwhile
                        yield oid, int.from_bytes(place), size

    @functools.cached_property
    def _positions(self) -> dict[int, int]:
        """The positions of the leaves by oid."""
        return {leaf.oid: position for position, leaf in enumerate(self.relation.table.leaves)}

    @functools.cached_property
    def _tree(self) -> bool:
        """Whether a partitioned target is one leaf."""
        return not self.relation.table.plain and not self.relation.table.leaves[0].only

    def _rows_of(self, oid: int, packed: array[int]) -> RowList:
        leaf, tids = self._positions.get(oid, 0), Places(packed)
        rows = RowList(leaf=leaf, tids=tids, rows=len(packed), excluded=self.excluded)
        return rows if oid in self._positions else PartitionRows(**vars(rows), part=oid)

    def _bounds(self, buckets: Sequence[Bucket], positions: set[int]) -> dict[str, Any]:
        leaves = self.relation.table.leaves
        bounds: dict[str, Any] = {}
        targets = [position for position, one in enumerate(leaves) if not one.queue]
        if len(targets) == 1 and positions == set(targets) and all(bucket.listed for bucket in buckets):
            tids = tuple(bucket.first for bucket in buckets)  # a partial index has found them
            bounds |= RowList(leaf=targets[0], tids=tids, rows=len(tids)).bounds()
        if self.excluded:
            bounds["excluded"] = list(self.excluded)
        if positions < set(targets):
            bounds["part"] = [leaves[position].oid for position in sorted(positions)]
        return bounds

    def _cut(self, rows: Iterator[tuple[int, int, int]], aim: int) -> Iterator[OrderedRows]:
        held: dict[int, array[int]] = {}
        count = size = 0
        for oid, place, text in rows:
            if count and (count == aim or size + text > MAX_BLOCK_BYTES):
                yield self._block(held)
                held, count, size = {}, 0, 0
            held.setdefault(oid, array("Q")).append(place)
            count, size = count + 1, size + text
        if count:
            yield self._block(held)

    def _block(self, held: dict[int, array[int]]) -> OrderedRows:
        return OrderedRows(parts=tuple(self._rows_of(oid, packed) for oid, packed in held.items()))

    def _eligible(self, connection: Connection, columns: Sequence[array[int]]) -> Iterator[tuple[int, int, int]]:
        """Yields the rows that are eligible, or that cannot be read: the reader says that of each."""
        pieces = Pieces()
        for start in range(0, len(columns[0]), FETCHED):
            rows = [*zip(*(column[start : start + FETCHED] for column in columns), strict=True)]
            eligible = {
                (oid, place)
                for oid in {oid for oid, _, _ in rows}
                for place in self._eligible_in(
                    connection, oid, array("Q", [row[1] for row in rows if row[0] == oid]), pieces
                )
            }
            yield from (row for row in rows if row[:2] in eligible)

    def _eligible_in(self, connection: Connection, oid: int, places: array[int], pieces: Pieces) -> Iterator[int]:
        part = self._rows_of(oid, places)
        leaf = self.relation.table.leaves[part.leaf]

        def fetch(unit: RowUnit, relation: Relation) -> Rows:
            bounds = unit.bounds()
            query, values = order_sql.list_places(self.selection, relation, leaf, tuple(bounds)), (*bounds.values(),)
            settings = relation.reading(leaf)
            with transaction(connection, settings, read_only=True, first=query, parameters=values) as cursor:
                return cursor.fetchall()

        for rows, _ in pieces.read(connection, self.relation, part, fetch):
            yield from (int.from_bytes(place) for (place,) in rows)

    def _explain_timeout(self, error: Exception, started: float) -> None:
        server = self.relation.access.server
        seconds = time.perf_counter() - started
        if isinstance(error, psycopg.Error) and timed_out(error, seconds, server.statement_timeout_ms):
            setting = setting_of(error)
            raise ConfigError(
                f"putting the rows of {self.relation.table.label} into the order of --order-by takes longer than "
                f"{setting} allows: {server_message(error)}: create an index on that order, pass --limit, or raise "
                f"{setting} of role {server.role}"
            ) from error
