"""The read stage: a bounded range in, a TextBlock out; the transaction is closed before the block is handed over."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pyarrow as pa

from vecfill.blocks import text_schema
from vecfill.errors import DatabaseError
from vecfill.postgres import read_sql
from vecfill.postgres.session import Connection, Database, Session, said, transaction
from vecfill.postgres.target import Relation
from vecfill.read.survey import of_users_sql
from vecfill.read.units import PageRange


class Read:
    """Callable ``PageRange -> TextBlock``. Travels by pickle; connects at its first call and keeps that connection."""

    def __init__(self, place: Database | Session, relation: Relation) -> None:
        """Takes a session that somebody else uses too, though never at the same time, or makes one of its own."""
        self._session = place if isinstance(place, Session) else Session(place)
        self._relation = relation

    def __call__(self, pages: PageRange) -> pa.Table:
        """Reads the eligible rows of the range, in the server's order, as they are now.

        Raises:
            ConfigError: the user's SQL fails on some row.
            DatabaseError: the server did not recover, or refused the statement.
        """
        start = time.perf_counter()
        try:
            with of_users_sql(self._relation):
                rows = self._session.run(lambda connection: self._fetch(connection, pages))
        except psycopg.Error as error:
            raise DatabaseError(f"{self._relation.label} cannot be read: {said(error)}") from error
        return _block(rows, self._relation.arity, time.perf_counter() - start)

    def nothing(self) -> pa.Table:
        """A TextBlock without rows."""
        return text_schema(self._relation.arity).empty_table()

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()

    def _fetch(self, connection: Connection, pages: PageRange) -> list[tuple[Any, ...]]:
        bounds = bounds_of(pages)
        query = read_sql.read(self._relation, self._relation.leaves[pages.leaf], tuple(bounds))
        parameters = (pages.limit, *bounds.values())
        with transaction(
            connection, self._relation.reading, read_only=True, first=query, parameters=parameters
        ) as cursor:
            return cursor.fetchall()


def bounds_of(pages: PageRange) -> dict[str, Any]:
    """The bounds of a range by name, each with its parameter: see ``read_sql.read``."""
    bounds: dict[str, Any] = {}
    if pages.tids:
        tids = ",".join(f'"({page},{offset})"' for page, offset in pages.tids)
        bounds["at"] = f"{{{tids}}}"
    else:
        if (pages.first_page, pages.first_offset) != (0, 0):
            bounds["from"] = f"({pages.first_page},{pages.first_offset})"
        if pages.end_page is not None:
            bounds["to"] = f"({pages.end_page},{pages.end_offset})"
    return {**bounds, **({"excluded": list(pages.excluded)} if pages.excluded else {})}


def _block(rows: list[tuple[Any, ...]], arity: int, seconds: float) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * (arity + 2)
    share = [seconds / len(rows)] * len(rows) if rows else []
    schema = text_schema(arity)
    arrays = [pa.array(column, type=field.type) for column, field in zip([*columns, share], schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
