"""The write stage: EncodedBlock in, WriteResult out. Adapts the batch size, and isolates faulty rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from vecfill.bisection import isolate
from vecfill.blocks import OUTCOMES, RESULT_SCHEMA, UnwrittenRow
from vecfill.config.limits import WriteLimits
from vecfill.errors import ConfigError, DatabaseError, Fault, StoppedError, classify
from vecfill.job import Worker
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.server import STATEMENT_TIMEOUT_MS
from vecfill.postgres.session import Session
from vecfill.postgres.timeouts import setting_of, timed_out, transaction_timeout_named
from vecfill.write.batch import Batch
from vecfill.write.batch_size import INDEXED_ROWS, START_ROWS, BatchSize, even_batch_rows, max_rows_in_memory
from vecfill.write.throttle import Throttle
from vecfill.write.write_batch import BatchResult, write_batch

log = logging.getLogger(__name__)


OUT_OF_MEMORY = "53200"


class Writer:
    """Callable ``EncodedBlock -> WriteResult``. Connects at the first call and keeps the connection."""

    def __init__(
        self, session: Session, relation: Relation, selection: Selection, limits: WriteLimits, worker: Worker
    ) -> None:
        """Takes a session of its own, and the limits of all writers together."""
        self._session, self._relation, self._selection = session, relation, selection
        self._stopped, self._table_locked = worker.stopped, False
        self._committed = worker.committed
        self._size = BatchSize(INDEXED_ROWS if relation.table.vector_indexes else START_ROWS)
        self._throttle = Throttle(limits.per_writer(worker.peers), stopped=worker.stopped)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Writes every row of the block and commits each batch; after a stop it skips the rows still waiting.

        Raises:
            ConfigError: a trigger changes the texts, or the table or role does not allow the write.
            DatabaseError: the server did not recover, or rejected the write for a reason other than a single row.
        """
        results: list[dict[str, Any]] = []
        start, max_rows = 0, self._max_rows(table)
        try:
            while start < table.num_rows and not (self._table_locked and self._stopped()):
                most = min(max_rows, self._throttle.max_batch_rows(self._size.rows))
                piece = table.slice(start, even_batch_rows(table.num_rows - start, most))
                if not self._throttle.wait_until_allowed(piece.num_rows, self._session):
                    break
                for part, result, seconds in self._write_piece(piece):
                    results.append(_result_row(part, result, seconds))
                start += piece.num_rows
        except StoppedError as error:
            log.warning("a batch of %d rows is not counted, and a rerun continues: %s", piece.num_rows, error)
        except BaseException:
            self.close()  # a failed Ray actor lives as long as a reference to its error
            raise
        return pa.Table.from_pylist(results, RESULT_SCHEMA)

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()

    def _max_rows(self, table: pa.Table) -> int:
        dim = table.schema.field("embedding").type.list_size
        return max_rows_in_memory(dim, self._relation.table.vector.kind, arrays=self._relation.access.arrays)

    def _write_piece(self, piece: pa.Table) -> Iterator[tuple[pa.Table, BatchResult, float]]:
        """Writes a piece as a whole or, if rows are faulty, in parts."""
        batch = Batch.from_block(piece, self._relation.table.vector.kind)
        for rows, outcome in isolate(len(batch), lambda rows: self._write_batch(batch.part(rows)), _row_fault):
            if isinstance(outcome, Exception):
                result, seconds = self._record_failed_row(batch.part(rows), outcome)
            else:
                result, seconds = outcome
            yield piece.slice(rows.start, rows.stop - rows.start), result, seconds

    def _write_batch(self, batch: Batch) -> tuple[BatchResult, float]:
        """Writes a batch; returns its result and the seconds that it took."""
        start = time.perf_counter()
        try:
            result = self._session.finish(lambda connection: self._write_and_adjust(connection, batch))
        except psycopg.errors.LockNotAvailable:
            # Another session locks the whole table: all rows count as locked, and the next sweep retries them.
            self._table_locked = True
            result = BatchResult(dict.fromkeys(OUTCOMES, 0) | {"locked": len(batch)})
        except psycopg.Error as error:
            fault = classify(error.sqlstate)
            if fault is Fault.RESOURCE and error.sqlstate == OUT_OF_MEMORY:
                self._size.halve(len(batch))  # a row that alone takes too much is set aside
            elif fault is Fault.RESOURCE:
                self._adapt_to_timeout(batch, error, time.perf_counter() - start)
            if fault in (Fault.ROW, Fault.RESOURCE):
                raise
            kind = ConfigError if fault is Fault.CONFIGURATION else DatabaseError
            raise kind(f"writing {self._relation.table.label} failed: {server_message(error)}") from error
        self._committed(result.counts["updated"])
        return result, time.perf_counter() - start

    def _write_and_adjust(self, connection: Connection, batch: Batch) -> BatchResult:
        with transaction_timeout_named(self._relation.access.server.transaction_timeout_ms):
            result = write_batch(connection, self._relation, self._selection, batch)
        self._table_locked = False
        self._size.adjust(len(batch), result.locked_s)
        return result

    def _record_failed_row(self, batch: Batch, error: Exception) -> tuple[BatchResult, float]:
        """Accounts for a row that the server rejected: refused if by a trigger or a policy, else failed."""
        refused = isinstance(error, psycopg.Error) and (error.sqlstate or "")[:2] in ("P0", "42")
        result, seconds = self._write_batch(batch.as_failed(("row", server_message(error))))
        if not refused:
            return result, seconds
        counts = {**result.counts, "failed": 0, "refused": result.counts["failed"]}
        rows = tuple(UnwrittenRow(one.key, "refused", "row", one.error) for one in result.unwritten)
        return BatchResult(counts, rows, result.bytes), seconds

    def _adapt_to_timeout(self, batch: Batch, error: psycopg.Error, seconds: float) -> None:
        """Makes the next batches smaller.

        Raises:
            DatabaseError: it was no timeout, or no smaller batch is possible.
        """
        limit = int(self._relation.access.settings.get("statement_timeout", STATEMENT_TIMEOUT_MS))
        if not timed_out(error, seconds, limit):
            raise DatabaseError(
                f"a write was cancelled on the server, not by our own timeout: {server_message(error)}: run again to "
                "continue"
            ) from error
        if len(batch) == 1:
            setting, role = setting_of(error), self._relation.access.server.role
            raise DatabaseError(
                f"one row of {self._relation.table.label} takes longer to write than {setting} allows: "
                f"{server_message(error)}: make its triggers faster, or raise {setting} of role {role}"
            ) from error
        self._size.halve(len(batch))


def _row_fault(error: Exception) -> bool:
    """Whether smaller batches may help: a fault of a row, or our own timeout on too many rows."""
    return isinstance(error, psycopg.Error) and classify(error.sqlstate) in (Fault.ROW, Fault.RESOURCE)


def _result_row(part: pa.Table, result: BatchResult, seconds: float) -> dict[str, Any]:
    """Makes one row of the WriteResult. ``part`` has the rows written, with the seconds of earlier stages."""
    return {
        **{outcome: result.counts[outcome] for outcome in OUTCOMES},
        "tokens": pc.sum(part["n_tokens"]).as_py() or 0,
        "truncated": pc.sum(part["truncated"]).as_py() or 0,
        "reused": pc.sum(part["reused"]).as_py() or 0,
        "bytes": result.bytes,
        "device": part["device"][0].as_py(),
        "dtype": part["dtype"][0].as_py(),
        "read_s": pc.sum(part["read_s"]).as_py() or 0.0,
        "load_s": pc.sum(part["load_s"]).as_py() or 0.0,
        "encode_s": pc.sum(part["encode_s"]).as_py() or 0.0,
        "write_s": seconds,
        "unwritten": [vars(one) for one in result.unwritten],
    }
