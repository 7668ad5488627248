"""The transaction that writes a batch, and the outcome of each of its rows."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from vecfill.blocks import OUTCOMES, UNREAD, UnwrittenRow
from vecfill.errors import ConfigError, DatabaseError
from vecfill.ledger.lease import lost
from vecfill.postgres import queue_settle_sql, record_sql, write_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.timeouts import SETTINGS
from vecfill.postgres.transaction import transaction
from vecfill.wording import count_of
from vecfill.write.batch import Batch
from vecfill.write.staging import StagedBatch, opening_statement, stage_batch

PREVENTED = "row", "a trigger or a row-level policy prevented the update"
"""Class and reason of a row that the server left as it was without an error of its own."""


class LostWhileWritingError(psycopg.OperationalError):
    """The connection broke after the server had taken in the batch: if it happens again, a row may be the cause."""


@dataclass(frozen=True)
class BatchResult:
    """The server's account of a batch.

    Attributes:
        counts: a count for each of ``OUTCOMES``.
        unwritten: the rows not updated.
        bytes: number of bytes sent.
        locked_s: seconds that rows were locked, without network round trips.
    """

    counts: dict[str, int]
    unwritten: tuple[UnwrittenRow, ...] = ()
    bytes: int = 0
    locked_s: float = 0.0


def write_batch(connection: Connection, relation: Relation, selection: Selection, batch: Batch) -> BatchResult:
    """Writes and commits a batch in one short transaction. Safe to repeat: filled rows stay unchanged.

    Raises:
        ConfigError: a trigger changed the text of a row; the batch was rolled back.
        DatabaseError: the server did not account for every row; the batch was rolled back.
        psycopg.Error: an error of the server; the batch was rolled back.
    """
    started = time.perf_counter()
    with transaction(connection, relation.locking, first=opening_statement(relation)) as cursor:
        round_trip = time.perf_counter() - started  # the server does almost no work in it
        staged = stage_batch(cursor, relation, batch)
        locking = time.perf_counter()
        with _loss_named(connection):
            outcomes, updated = _write(staged, relation, selection, len(batch))
        keys = _fetch_keys(staged, relation, outcomes)
        outcomes |= _resolve_unlocked(staged, relation, outcomes, keys)
        _check_not_rewritten(relation, outcomes, keys)
        if relation.tracking is not None:
            _remember_failures(staged, relation, batch, outcomes)
        if relation.queue is not None:
            _settle_entries(staged, relation, batch, outcomes)
        counts = Counter(outcomes.values())
        counts["updated"] = updated
        if counts.total() != len(batch):
            raise DatabaseError(
                f"the server accounted for {counts.total()} of {count_of(len(batch), 'row')}: please report this bug"
            )
    unwritten = tuple(
        UnwrittenRow(key, outcomes[row], *batch.errors.get(row, PREVENTED if outcomes[row] == "refused" else ()))
        for row, (key, _) in keys.items()
    )
    locked_s = time.perf_counter() - locking - 2 * round_trip
    return BatchResult({outcome: counts[outcome] for outcome in OUTCOMES}, unwritten, staged.bytes, max(0.0, locked_s))


@contextmanager
def _loss_named(connection: Connection) -> Iterator[None]:
    """Tells a connection lost while the server writes the batch that it took in; time limits have errors of their own.

    Raises:
        LostWhileWritingError: instead of another OperationalError.
    """
    try:
        yield
    except psycopg.OperationalError as error:
        if not connection.closed or error.sqlstate in SETTINGS:
            raise
        message = f"the connection is lost whenever this row is written: {server_message(error)}"
        raise LostWhileWritingError(message) from error


def _write(staged: StagedBatch, relation: Relation, selection: Selection, size: int) -> tuple[dict[int, str], int]:
    """Writes, runs triggers, and returns the outcomes of the rows not updated and the number of updated rows."""
    rows = staged.write(write_sql.write(selection, relation), size)
    if any(outcome == "lost" for outcome, *_ in rows):
        raise lost(relation)
    outcomes = dict(sorted((position, outcome) for outcome, _, position, _ in rows if position is not None))
    updated = sum(count for _, count, position, _ in rows if position is None)
    if not any(after for *_, after in rows):
        return outcomes, updated
    staged.cursor.execute(write_sql.RUN_DEFERRED_TRIGGERS)
    undone = dict(staged.query(write_sql.changed_by_triggers(selection, relation), list(outcomes)))
    if undone and relation.tracking is not None:
        staged.execute(record_sql.forget(relation), list(undone))
    return outcomes | undone, updated - len(undone)


def _remember_failures(staged: StagedBatch, relation: Relation, batch: Batch, outcomes: dict[int, str]) -> None:
    """Writes the failed and refused rows into the ledger, so that later runs leave them alone for a while."""
    failed = [
        {"n": row, "stage": _stage(batch, outcome, message), "class": kind, "message": message}
        for row, outcome in outcomes.items()
        if outcome in ("failed", "refused")
        for kind, message in [batch.errors.get(row, PREVENTED)]
    ]
    if failed:
        staged.execute(record_sql.record_failures(relation), json.dumps(failed).replace("\\u0000", " "))


def _settle_entries(staged: StagedBatch, relation: Relation, batch: Batch, outcomes: dict[int, str]) -> None:
    """Settles the entries of the queue table, but for rows that the next sweep reads again."""
    failed = {row: batch.errors.get(row, PREVENTED)[1] for row, how in outcomes.items() if how in ("failed", "refused")}
    again = [row for row, outcome in outcomes.items() if outcome in ("stale", "locked")]
    rows = [{"n": row, "message": failed.get(row)} for row in (*failed, *again)]
    query = queue_settle_sql.settle_staged(relation, failures=bool(failed))
    staged.execute(query, json.dumps(rows).replace("\\u0000", " "))


def _stage(batch: Batch, outcome: str, message: str) -> str:
    """Where a row failed or was refused."""
    if outcome == "refused":
        return "write"
    return "read" if message.startswith(UNREAD) else batch.stage


def _fetch_keys(staged: StagedBatch, relation: Relation, outcomes: dict[int, str]) -> dict[int, tuple[str, bool]]:
    """Returns position → key as text, and whether the row still exists, of the rows not updated."""
    if not outcomes:
        return {}
    return {row: (key, exists) for row, key, exists in staged.query(write_sql.key_texts(relation), list(outcomes))}


def _resolve_unlocked(
    staged: StagedBatch, relation: Relation, outcomes: dict[int, str], keys: dict[int, tuple[str, bool]]
) -> dict[int, str]:
    """Returns the outcome of each ``unlocked`` row: gone, locked by another session, or refused by a policy."""
    resolved = {row: "locked" if keys[row][1] else "gone" for row, outcome in outcomes.items() if outcome == "unlocked"}
    locked = [row for row, outcome in resolved.items() if outcome == "locked"]
    if locked and relation.access.policies:
        resolved |= dict.fromkeys(_hidden_by_policy(staged, relation, locked), "refused")
    return resolved


def _hidden_by_policy(staged: StagedBatch, relation: Relation, rows: list[int]) -> set[int]:
    """Returns the rows that no session holds but this role cannot lock: a row-level policy for UPDATE excludes them."""
    try:
        with staged.cursor.connection.transaction():
            found = staged.query(write_sql.lockable_rows(relation), rows)
    except psycopg.errors.LockNotAvailable:
        return set()
    return set(rows) - {row for (row,) in found}


def _check_not_rewritten(relation: Relation, outcomes: dict[int, str], keys: dict[int, tuple[str, bool]]) -> None:
    rewritten = [keys[row][0] for row, outcome in outcomes.items() if outcome == "rewritten"]
    if rewritten:
        raise ConfigError(
            f"a trigger on {relation.table.label} changed the text of {count_of(len(rewritten), 'row')} while vectors "
            f"were written (key {rewritten[0]}), so vectors and texts would not match; the batch was rolled back: "
            "remove the column that the trigger, or a generated column over --set, changes from --text, or disable the "
            "trigger"
        )
