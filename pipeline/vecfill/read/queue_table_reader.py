"""The read stage of a target with a queue table: claims the next entries, and reads the rows that they name."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from vecfill.errors import ConfigError
from vecfill.job import Worker
from vecfill.postgres import queue_table_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import Session
from vecfill.postgres.transaction import transaction
from vecfill.read.queue_units import NextEntries
from vecfill.read.reader import Reader, interruptible_read
from vecfill.read.units import RowList, RowUnit, Tid, parse_tid


class QueueTableReader:
    """Callable ``unit -> TextBlock``. The claim is committed before the rows are read.

    An entry that was claimed and whose row needs no vector any more keeps its claim until the next survey.
    """

    def __init__(self, session: Session, relation: Relation, read: Reader, read_rest: Reader, worker: Worker) -> None:
        """Takes a session, a reader of rows that entries name, and one of rows that no open entry names."""
        self._session, self._relation, self._worker = session, relation, worker
        self._read, self._read_rest = read, read_rest

    def __call__(self, unit: NextEntries | RowUnit) -> pa.Table:
        """Reads the rows that the next entries name, or a unit of the table itself.

        Raises:
            ConfigError, DatabaseError: as ``Reader``; or a trigger of the queue table changed the status back.
        """
        if not isinstance(unit, NextEntries):
            return self._read_rest(unit)
        places: tuple[Tid, ...] = ()
        with interruptible_read(self._worker, f"entries of {self._relation.queue_table.label} cannot be claimed"):
            places = self._session.run(lambda connection: self._claim(connection, unit), stopped=self._worker.stopped)
        if not places:
            return self.nothing()
        limit = unit.rows if unit.limited else None
        return self._read(RowList(leaf=unit.leaf, tids=places, rows=unit.rows, limit=limit, excluded=unit.excluded))

    def nothing(self) -> pa.Table:
        """Returns a TextBlock without rows."""
        return self._read.nothing()

    def close(self) -> None:
        """Closes the connection; the next call opens another."""
        self._session.close()

    def _claim(self, connection: Connection, unit: NextEntries) -> tuple[Tid, ...]:
        relation = self._relation
        query, parameters = queue_table_sql.claim(relation), (unit.entries,)
        with transaction(connection, relation.changing_entries, first=query, parameters=parameters) as cursor:
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            if not all(claimed for _, claimed in rows):
                raise ConfigError(
                    f"a trigger of the queue table {relation.queue_table.label} changes the status of an entry that is "
                    "claimed; nothing was claimed: disable the trigger"
                )
        return tuple(parse_tid(place) for place, _ in rows)
