"""The read stage: a unit in, a TextBlock out. The transaction ends before the block is returned."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pyarrow as pa

from vecfill.arrow_arrays import arrow_array
from vecfill.blocks import UNREAD, text_schema
from vecfill.errors import DatabaseError, StoppedError, TableLockedError
from vecfill.job import LOCKED, Worker
from vecfill.postgres import read_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.session import Session
from vecfill.postgres.transaction import transaction
from vecfill.read.ordered_rows import OrderedRows
from vecfill.read.pieces import Pieces
from vecfill.read.units import RowUnit
from vecfill.read.unreadable_rows import Rows, is_slow
from vecfill.read.user_sql_errors import explain_user_sql_errors

log = logging.getLogger(__name__)


@contextmanager
def interruptible_read(worker: Worker, complaint: str) -> Iterator[None]:
    """Ends the body at a stop, and at a table that stays locked, which stops the run.

    Raises:
        DatabaseError: the server rejected a statement; its message begins with ``complaint``.
    """
    try:
        yield
    except StoppedError:
        pass
    except TableLockedError as error:
        log.warning("%s", error)
        worker.stop(LOCKED)
    except psycopg.Error as error:
        raise DatabaseError(f"{complaint}: {server_message(error)}") from error


class Reader:
    """Callable ``unit -> TextBlock``. Keeps its connection between calls."""

    def __init__(self, session: Session, relation: Relation, selection: Selection, worker: Worker) -> None:
        """Takes a session; other code may use it too, but not at the same time."""
        self._session, self._relation, self._selection, self._worker = session, relation, selection, worker
        self._pieces = Pieces()

    def __call__(self, unit: RowUnit | OrderedRows) -> pa.Table:
        """Reads the currently eligible rows of the unit; none if a stop interrupts it.

        A row that the server cannot read comes with its key and the error. Other rows are in the server's order, unless
        there is such a row.

        A table that stays locked ends the run like a stop: its rows are left to the next one.

        Raises:
            ConfigError: the user's SQL fails on all rows.
            DatabaseError: the server did not recover, or rejected the statement.
        """
        start, rows = time.perf_counter(), Rows()
        with (
            interruptible_read(self._worker, f"{self._relation.table.label} cannot be read"),
            explain_user_sql_errors(self._relation),
        ):
            rows = self._session.run(lambda connection: self._fetch(connection, unit), stopped=self._worker.stopped)
        return _block(rows, self._relation.table.arity, time.perf_counter() - start)

    def nothing(self) -> pa.Table:
        """Returns a TextBlock without rows."""
        return _block(Rows(), self._relation.table.arity, 0.0)

    def close(self) -> None:
        """Closes the connection; the next call opens another."""
        self._session.close()

    def _fetch(self, connection: Connection, unit: RowUnit | OrderedRows) -> Rows:
        rows: Rows = []

        def fetch(piece: RowUnit, relation: Relation) -> Rows:
            left = None if unit.limit is None else unit.limit - len(rows)
            return [] if left == 0 else self._fetch_piece(connection, relation, replace(piece, limit=left))

        for part in unit.parts if isinstance(unit, OrderedRows) else (unit,):
            for found, error in self._pieces.read(connection, self._relation, part, fetch):
                reason = ("timeout" if is_slow(error) else "row", f"{UNREAD}{error}") if error else (None, None)
                rows += [(*row, *reason) for row in found]
        return rows

    def _fetch_piece(self, connection: Connection, relation: Relation, unit: RowUnit) -> Rows:
        bounds, leaf = unit.bounds(), relation.table.leaves[unit.leaf]
        query = read_sql.read(self._selection, relation, leaf, tuple(bounds))
        parameters = (unit.limit, *bounds.values())
        settings = relation.reading(leaf)
        with transaction(connection, settings, read_only=True, first=query, parameters=parameters) as cursor:
            return cursor.fetchall()


def _block(rows: Rows, arity: int, seconds: float) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * (arity + 5)
    share = [seconds / len(rows)] * len(rows) if rows else []
    schema = text_schema(arity)
    arrays = [arrow_array(column, field.type) for column, field in zip([*columns, share], schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
