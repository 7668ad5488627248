"""The write stage: EncodedBlock in, WriteResult out. Batches follow the clock; a faulty row is found and set aside."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from vecfill.bisection import isolate
from vecfill.blocks import OUTCOMES, RESULT_SCHEMA, UnwrittenRow
from vecfill.errors import ConfigError, DatabaseError, Fault, classify
from vecfill.job import Worker
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.server import STATEMENT_TIMEOUT_MS
from vecfill.postgres.session import Session
from vecfill.write.batch import Batch
from vecfill.write.batch_size import INDEXED_ROWS, START_ROWS, BatchSize, even_batch_rows, max_rows_in_memory
from vecfill.write.throttle import Throttle, WriteLimits
from vecfill.write.write_batch import BatchResult, write_batch


class Writer:
    """Callable ``EncodedBlock -> WriteResult``. Connects at its first call, and stays connected."""

    def __init__(
        self, session: Session, relation: Relation, selection: Selection, limits: WriteLimits, worker: Worker
    ) -> None:
        """Takes a session of its own; the limits are those of all writers together."""
        self._session, self._relation, self._selection = session, relation, selection
        self._size = BatchSize(INDEXED_ROWS if relation.table.vector_indexes else START_ROWS)
        self._throttle = Throttle(limits.per_writer(worker.peers), stopped=worker.stopped, say=worker.say)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Writes every row of the block, committed batch by batch; after a stop it leaves the rows that still wait.

        Raises:
            ConfigError: a trigger changes the texts, or the table or the role is not set up to be written.
            DatabaseError: the server did not recover, or refuses what no single row is to blame for.
        """
        results: list[dict[str, Any]] = []
        at, room = 0, self._max_rows(table)
        try:
            while at < table.num_rows:
                most = min(room, self._throttle.max_batch_rows(self._size.rows))
                piece = table.slice(at, even_batch_rows(table.num_rows - at, most))
                if not self._throttle.wait_until_allowed(piece.num_rows, self._session):
                    break
                results += [_result(part, landed, seconds) for part, landed, seconds in self._write(piece)]
                at += piece.num_rows
        except BaseException:
            self.close()  # an actor that failed lives on for as long as anybody holds its error
            raise
        return pa.Table.from_pylist(results, RESULT_SCHEMA)

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()

    def _max_rows(self, table: pa.Table) -> int:
        dim = table.schema.field("embedding").type.list_size
        return max_rows_in_memory(dim, self._relation.table.vector.kind, arrays=self._relation.access.arrays)

    def _write(self, piece: pa.Table) -> list[tuple[pa.Table, BatchResult, float]]:
        """Lands a piece whole, or in the parts that its faulty rows leave."""
        batch = Batch.from_block(piece, self._relation.table.vector.kind)
        landed = []
        for rows, result in isolate(len(batch), lambda rows: self._land(batch.part(rows)), _row_fault):
            part = batch.part(rows)
            if isinstance(result, Exception):
                done, seconds = self._record_failed_row(part, result)
            else:
                done, seconds = result
            landed.append((piece.slice(rows.start, rows.stop - rows.start), done, seconds))
        return landed

    def _land(self, batch: Batch) -> tuple[BatchResult, float]:
        """Lands a batch and says how many seconds it took."""
        start = time.perf_counter()
        try:
            landed = self._session.run(lambda connection: self._land_and_adjust(connection, batch))
        except psycopg.errors.QueryCanceled as error:
            if len(batch) == 1 or time.perf_counter() - start < self._timeout_s * 0.9:
                raise DatabaseError(
                    "a write was cancelled on the server, not by our own time-out: run again to go on"
                ) from error
            self._size.halve(len(batch))
            raise
        except psycopg.errors.LockNotAvailable:
            # Another session holds the table as a whole: all rows are locked, and the next sweep tries them again.
            landed = BatchResult(dict.fromkeys(OUTCOMES, 0) | {"locked": len(batch)})
        except psycopg.Error as error:
            fault = classify(error.sqlstate)
            if fault is Fault.ROW:
                raise
            kind = ConfigError if fault is Fault.CONFIGURATION else DatabaseError
            raise kind(f"{self._relation.table.label} refuses to be written: {server_message(error)}") from error
        return landed, time.perf_counter() - start

    def _land_and_adjust(self, connection: Connection, batch: Batch) -> BatchResult:
        landed = write_batch(connection, self._relation, self._selection, batch)
        self._size.adjust(len(batch), landed.locked_s)
        return landed

    def _record_failed_row(self, batch: Batch, error: Exception) -> tuple[BatchResult, float]:
        """Accounts for a row that the server would not take: refused by a trigger or a policy, failed otherwise."""
        refused = isinstance(error, psycopg.Error) and (error.sqlstate or "")[:2] in ("P0", "42")
        landed, seconds = self._land(batch.as_failed(("row", server_message(error))))
        if not refused:
            return landed, seconds
        counts = {**landed.counts, "failed": 0, "refused": landed.counts["failed"]}
        rows = tuple(UnwrittenRow(one.key, "refused", "row", one.error) for one in landed.unwritten)
        return BatchResult(counts, rows, landed.bytes), seconds

    @property
    def _timeout_s(self) -> float:
        return int(self._relation.access.settings.get("statement_timeout", STATEMENT_TIMEOUT_MS)) / 1000


def _row_fault(error: Exception) -> bool:
    """A fault that halving the batch can corner: a row's own, or our time-out on too many rows."""
    return isinstance(error, psycopg.Error) and classify(error.sqlstate) in (Fault.ROW, Fault.RESOURCE)


def _result(part: pa.Table, landed: BatchResult, seconds: float) -> dict[str, Any]:
    """One row of the WriteResult. ``part`` is what was landed, with the seconds that earlier stages spent on it."""
    return {
        **{outcome: landed.counts[outcome] for outcome in OUTCOMES},
        "tokens": pc.sum(part["n_tokens"]).as_py() or 0,
        "truncated": pc.sum(part["truncated"]).as_py() or 0,
        "reused": pc.sum(part["reused"]).as_py() or 0,
        "bytes": landed.bytes,
        "device": part["device"][0].as_py(),
        "dtype": part["dtype"][0].as_py(),
        "read_s": pc.sum(part["read_s"]).as_py() or 0.0,
        "load_s": pc.sum(part["load_s"]).as_py() or 0.0,
        "encode_s": pc.sum(part["encode_s"]).as_py() or 0.0,
        "write_s": seconds,
        "unwritten": [vars(one) for one in landed.unwritten],
    }
