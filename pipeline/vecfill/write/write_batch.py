"""The transaction that lands a batch, and what became of each of its rows."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import psycopg

from vecfill.blocks import OUTCOMES, UnwrittenRow
from vecfill.errors import ConfigError, DatabaseError
from vecfill.postgres import write_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.session import transaction
from vecfill.write.batch import Batch
from vecfill.write.staging import StagedBatch, opening_statement, stage_batch


@dataclass(frozen=True)
class BatchResult:
    """What the server says of a batch.

    Attributes:
        counts: a count for each of ``OUTCOMES``.
        unwritten: the rows not updated.
        bytes: that were sent.
        locked_s: seconds that rows were locked, but for the round trips of the line.
    """

    counts: dict[str, int]
    unwritten: tuple[UnwrittenRow, ...] = ()
    bytes: int = 0
    locked_s: float = 0.0


def write_batch(connection: Connection, relation: Relation, selection: Selection, batch: Batch) -> BatchResult:
    """Writes a batch in one short transaction; committed when it returns. Safe to repeat: what is filled stays.

    Raises:
        ConfigError: a trigger changed the text under a vector; nothing of the batch was kept.
        DatabaseError: the server did not account for every row; nothing of the batch was kept.
        psycopg.Error: as the server said; nothing of the batch was kept.
    """
    started = time.perf_counter()
    with transaction(connection, relation.access.settings, first=opening_statement(relation)) as cursor:
        trip = time.perf_counter() - started  # the server has next to nothing to do in it
        staged = stage_batch(cursor, relation, batch)
        locking = time.perf_counter()
        outcomes, updated = _write(staged, relation, selection, len(batch))
        keys = _fetch_keys(staged, relation, outcomes)
        outcomes |= _resolve_unlocked(staged, relation, outcomes, keys)
        _check_not_rewritten(relation, outcomes, keys)
        counts = Counter(outcomes.values())
        counts["updated"] = updated
        if counts.total() != len(batch):
            raise DatabaseError(f"the server accounted for {counts.total()} of {len(batch)} rows: please report this")
    unwritten = tuple(
        UnwrittenRow(key, outcomes[row], *batch.errors.get(row, (None, None))) for row, (key, _) in keys.items()
    )
    held = time.perf_counter() - locking - 2 * trip
    return BatchResult({outcome: counts[outcome] for outcome in OUTCOMES}, unwritten, staged.bytes, max(0.0, held))


def _write(staged: StagedBatch, relation: Relation, selection: Selection, size: int) -> tuple[dict[int, str], int]:
    """Writes, and gives the outcomes of the rows that have no new vector, and how many have, once triggers have run."""
    rows = staged.write(write_sql.write(selection, relation), size)
    outcomes = dict(sorted((position, outcome) for outcome, _, position, _ in rows if position is not None))
    updated = sum(count for _, count, position, _ in rows if position is None)
    if not any(after for *_, after in rows):
        return outcomes, updated
    staged.cursor.execute(write_sql.RUN_DEFERRED_TRIGGERS)
    undone = dict(staged.ask(write_sql.changed_by_triggers(relation), list(outcomes)))
    return outcomes | undone, updated - len(undone)


def _fetch_keys(staged: StagedBatch, relation: Relation, outcomes: dict[int, str]) -> dict[int, tuple[str, bool]]:
    """Key as text, and whether the row is still there, of the rows that were not updated."""
    if not outcomes:
        return {}
    return {row: (key, there) for row, key, there in staged.ask(write_sql.key_texts(relation), list(outcomes))}


def _resolve_unlocked(
    staged: StagedBatch, relation: Relation, outcomes: dict[int, str], keys: dict[int, tuple[str, bool]]
) -> dict[int, str]:
    """Why the rows that could not be locked could not: they are gone, another holds them, or a policy hides them."""
    settled = {row: "locked" if keys[row][1] else "gone" for row, outcome in outcomes.items() if outcome == "unlocked"}
    locked = [row for row, outcome in settled.items() if outcome == "locked"]
    if locked and relation.access.policies:
        settled |= dict.fromkeys(_hidden_by_policy(staged, relation, locked), "refused")
    return settled


def _hidden_by_policy(staged: StagedBatch, relation: Relation, rows: list[int]) -> set[int]:
    """Rows that nobody holds and that still cannot be locked: a row-level policy for UPDATE leaves them out."""
    try:
        with staged.cursor.connection.transaction():
            found = staged.ask(write_sql.lockable_rows(relation), rows)
    except psycopg.errors.LockNotAvailable:
        return set()
    return set(rows) - {row for (row,) in found}


def _check_not_rewritten(relation: Relation, outcomes: dict[int, str], keys: dict[int, tuple[str, bool]]) -> None:
    rewritten = [keys[row][0] for row, outcome in outcomes.items() if outcome == "rewritten"]
    if rewritten:
        raise ConfigError(
            f"a trigger on {relation.table.label} changed the text of {len(rewritten)} rows while their vector was "
            f"written (key {rewritten[0]}): the vector would not belong to it, and the batch was rolled back: take the "
            "column that the trigger, or a generated column over --set, changes out of --text, or disable the trigger"
        )
