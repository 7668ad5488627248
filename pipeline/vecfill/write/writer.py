"""The write stage: EncodedBlock in, WriteResult out. Adapts the batch size, and isolates faulty rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from vecfill.arrow_arrays import arrow_array, numpy_array
from vecfill.bisection import SharedFaultError, isolate
from vecfill.blocks import OUTCOMES, RESULT_SCHEMA, UnwrittenRow
from vecfill.config.limits import WriteLimits
from vecfill.errors import StoppedError, TooSlowError
from vecfill.job import Worker
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.session import Session
from vecfill.postgres.timeouts import transaction_timeout_named
from vecfill.wording import count_of
from vecfill.write.batch import Batch
from vecfill.write.batch_size import INDEXED_ROWS, START_ROWS, BatchSize, even_batch_rows, max_rows_in_memory
from vecfill.write.throttle import Throttle
from vecfill.write.write_batch import BatchResult, write_batch
from vecfill.write.write_faults import (
    MAX_LOCK_WAITS,
    OUT_OF_MEMORY,
    check_escapable,
    explain_shared,
    give_up,
    is_conflict,
    is_locked,
    is_slow,
    is_table_lock,
    locked,
    may_be_one_rows,
)

log = logging.getLogger(__name__)

Written = tuple[BatchResult, float]
"""The account of a batch, and the seconds that it took."""


class Writer:
    """Callable ``EncodedBlock -> WriteResult``. Connects at the first call and keeps the connection."""

    def __init__(
        self, session: Session, relation: Relation, selection: Selection, limits: WriteLimits, worker: Worker
    ) -> None:
        """Takes a session of its own, and the limits of all writers together."""
        self._session, self._relation, self._selection = session, relation, selection
        self._stopped, self._table_locked = worker.stopped, False
        self._committed = worker.committed
        slow = relation.table.vector_indexes or relation.table.indexes_beside
        self._size = BatchSize(INDEXED_ROWS if slow else START_ROWS)
        self._throttle = Throttle(limits, worker)

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
                began = time.perf_counter()
                for part, result, seconds in self._write_piece(piece):
                    results.append(_result_row(part, result, seconds))
                self._throttle.wrote(time.perf_counter() - began)
                start += piece.num_rows
        except StoppedError as error:
            rows = count_of(piece.num_rows, "row")
            log.warning("a batch of %s is not counted, and a rerun continues: %s", rows, error)
        except BaseException:
            self.close()  # a failed Ray actor lives as long as a reference to its error
            raise
        columns = [arrow_array([one[field.name] for one in results], field.type) for field in RESULT_SCHEMA]
        return pa.Table.from_arrays(columns, schema=RESULT_SCHEMA)

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()

    def _max_rows(self, table: pa.Table) -> int:
        dim = table.schema.field("embedding").type.list_size
        return max_rows_in_memory(dim, self._relation.table.vector.kind, arrays=self._relation.access.arrays)

    def _write_piece(self, piece: pa.Table) -> Iterator[tuple[pa.Table, BatchResult, float]]:
        """Writes a piece as a whole or, if rows are faulty, in parts."""
        batch = Batch.from_block(piece, self._relation.table.vector.kind)
        whole, left, slow = len(batch), set(range(len(batch))), list[Exception]()

        def attempt(rows: slice) -> Written:
            part = batch.part(rows)
            if slow and self._stopped():
                raise StoppedError(str(slow[-1]))
            try:
                return self._write_batch(part, part=len(part) < whole)
            except (psycopg.Error, TooSlowError) as error:
                slow.extend([error] if is_slow(error) else [])
                if not is_locked(error) or len(slow) < MAX_LOCK_WAITS:
                    raise
                return locked(len(part)), 0.0

        try:
            for rows, outcome in isolate(whole, attempt, may_be_one_rows, proves=_proves, slow=is_slow):
                some = batch.part(rows)
                written = self._record_failed_row(some, outcome) if isinstance(outcome, Exception) else outcome
                left -= set(range(rows.start, rows.stop))
                yield piece.slice(rows.start, len(some)), *written
        except SharedFaultError as error:
            if not is_locked(error.__cause__):
                raise explain_shared(error, self._relation) from error
            label = self._relation.table.label
            log.warning("%s of %s still locked: %s", count_of(len(left), "row"), label, error)
            yield piece.take(arrow_array(sorted(left), pa.int64())), locked(len(left)), 0.0

    def _write_batch(self, batch: Batch, *, part: bool = False) -> Written:
        """Writes a batch, or a part of one that failed; returns its result and the seconds that it took.

        Raises:
            psycopg.Error, TooSlowError: a smaller batch may succeed.
            ConfigError, DatabaseError: it may not.
        """
        start = time.perf_counter()
        try:
            result = self._session.finish(
                lambda connection: self._write_and_adjust(connection, batch), partial(give_up, part=part)
            )
        except psycopg.Error as error:
            if not is_table_lock(error):
                self._check_escapable(error, len(batch), time.perf_counter() - start)
                raise
            self._table_locked, result = True, locked(len(batch))
            log.warning(
                "%s is locked as a whole by another session: %s left to the next sweep",
                self._relation.table.label,
                count_of(len(batch), "row", "is"),
                extra={"waits_for": "a locked table", "wait_s": time.perf_counter() - start},
            )
        self._committed(result.counts["updated"])
        return result, time.perf_counter() - start

    def _write_and_adjust(self, connection: Connection, batch: Batch) -> BatchResult:
        with transaction_timeout_named(self._relation.access.server.transaction_timeout_ms):
            result = write_batch(connection, self._relation, self._selection, batch)
        self._table_locked = False
        self._size.adjust(len(batch), result.locked_s)
        return result

    def _check_escapable(self, error: psycopg.Error, rows: int, seconds: float) -> None:
        """Returns if a smaller batch may escape the error; after a timeout, or for lack of memory, so are the next."""
        try:
            check_escapable(error, seconds, self._relation)
        except TooSlowError:
            self._size.halve(rows)
            raise
        if error.sqlstate == OUT_OF_MEMORY:
            self._size.halve(rows)

    def _record_failed_row(self, batch: Batch, error: Exception) -> Written:
        """Accounts for a single row that failed: as refused, as failed, or as locked, for the next sweep."""
        message = server_message(error)
        if is_conflict(error):
            log.warning("a row of %s is left to the next sweep: %s", self._relation.table.label, message)
            return locked(len(batch)), 0.0
        result, seconds = self._write_batch(batch.as_failed((_error_class(error), message)))
        if not _is_refusal(error):
            return result, seconds
        counts = {**result.counts, "failed": 0, "refused": result.counts["failed"]}
        rows = tuple(UnwrittenRow(one.key, "refused", "row", one.error) for one in result.unwritten)
        return BatchResult(counts, rows, result.bytes), seconds


def _proves(written: Written) -> bool:
    """Whether a written part proves that not every row fails: locked rows were not tried."""
    counts = written[0].counts
    return counts["locked"] < sum(counts.values())


def _error_class(error: Exception) -> str:
    return "timeout" if isinstance(error, TooSlowError) else "row"


def _is_refusal(error: Exception) -> bool:
    """Whether a trigger or a row-level policy refused the row, with the SQLSTATE that is usual for it."""
    sqlstate = (error.sqlstate or "") if isinstance(error, psycopg.Error) else ""
    return sqlstate.startswith("P0") or sqlstate == "42501"


def _result_row(part: pa.Table, result: BatchResult, seconds: float) -> dict[str, Any]:
    """Makes one row of the WriteResult. ``part`` has the rows written, with the seconds of earlier stages."""
    windows = numpy_array(part["windows"])
    windows = windows[windows > 1]
    return {
        **{outcome: result.counts[outcome] for outcome in OUTCOMES},
        "tokens": pc.sum(part["n_tokens"]).as_py() or 0,
        "truncated": pc.sum(part["truncated"]).as_py() or 0,
        "tokens_by": np.bincount(numpy_array(part["tokens_by"])).tolist(),
        "windowed": len(windows),
        "windows": int(windows.sum()),
        "reused": pc.sum(part["reused"]).as_py() or 0,
        "bytes": result.bytes,
        "device": part["device"][0].as_py(),
        "dtype": part["dtype"][0].as_py(),
        "encoder": part["encoder"][0].as_py(),
        "read_s": pc.sum(part["read_s"]).as_py() or 0.0,
        "load_s": pc.sum(part["load_s"]).as_py() or 0.0,
        "encode_s": pc.sum(part["encode_s"]).as_py() or 0.0,
        "write_s": seconds,
        "unwritten": [vars(one) for one in result.unwritten],
    }
