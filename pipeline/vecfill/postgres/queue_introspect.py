"""The queue table of a target: the user's settings, resolved against the catalogue and checked; nothing is written."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from vecfill.config.queue_options import DELETE
from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.postgres import queue_table_sql
from vecfill.postgres.catalogue import Table, columns_of, find_table
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import is_transient, server_message
from vecfill.postgres.indexes import Index, indexes_of
from vecfill.postgres.queue_columns import QueueColumns
from vecfill.postgres.queue_table import QueueTable
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction

_PARTIAL_UNIQUE = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_index AS i
  WHERE i.indrelid = $1::pg_catalog.oid AND i.indisunique AND i.indpred IS NOT NULL),
  EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = $1::pg_catalog.oid AND i.indisunique
    AND i.indpred IS NULL AND $2::pg_catalog.int2 = ANY (i.indkey::pg_catalog.int2[])),
  (pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()))::pg_catalog.xid::pg_catalog.text
"""

MARKS = 1_000_000
"""Microseconds of a second: the range of a run's mark."""


def with_queue_table(connection: Connection, relation: Relation, target: Target) -> Relation:
    """Returns the target with its queue table; unchanged if it has none.

    Args:
        connection: to the target's database.
        relation: the target, with its key.
        target: the user's settings.

    Raises:
        ConfigError: there is no such table, or it cannot be this target's queue table.
    """
    if target.queue.table is None:
        return relation
    with transaction(connection, read_only=True) as cursor:
        table = _found(cursor, target.queue.table, relation)
        found = QueueColumns(
            cursor, target.queue, table.oid, f"{table.schema}.{table.name}", columns_of(cursor, table.oid)
        )
        _check_table(table, found.label, relation)
        queue = _resolved(cursor, found, table, relation)
    return replace(relation, queue=queue)


def _found(cursor: Any, name: str, relation: Relation) -> Table:
    try:
        return find_table(cursor, name, relation.access.server.block_bytes)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--table", "--queue-table", 1)) from error


def _check_table(table: Table, label: str, relation: Relation) -> None:
    if table.kind == "p":
        raise ConfigError(f"--queue-table {label} is a partitioned table: only a plain table can be a queue table")
    if table.oid in relation.table.tree:
        raise ConfigError(f"--queue-table {label} is the target itself: name the table that holds the queue")
    if table.policies:
        raise ConfigError(
            f"row-level security of the queue table {label} applies to role {relation.access.server.role}, so that "
            "entries may be hidden from it: connect as the owner or as a role with BYPASSRLS"
        )


def _resolved(cursor: Any, found: QueueColumns, table: Table, relation: Relation) -> QueueTable:
    options = found.options
    status = found.column("status", options.status)
    claimed = found.stamp("claimed", options.claimed)
    error = None if options.error is None else found.column("error", options.error)
    single, whole, transaction_id = cursor.execute(_PARTIAL_UNIQUE, (table.oid, status.number)).fetchone()
    if whole:
        raise ConfigError(
            f"a unique index of the queue table {found.label} contains {status.name}, so that two entries of one key "
            "could not both be done: drop it, or make it partial (WHERE the entry is pending)"
        )
    names = [name for name in ("pending", "processing", "done", "failed") if getattr(options, name) != DELETE]
    values = {name: found.value(status, name, getattr(options, name)) for name in names}
    key, marked = found.key(relation), claimed is not None and claimed.exact
    indexes = indexes_of(cursor, {table.oid: 0})
    return QueueTable(
        label=found.label,
        name=sql.Identifier(table.schema, table.name),
        key=key,
        only=found.only(),
        status=status.name,
        pending=values["pending"],
        processing=values["processing"],
        done=values.get("done"),
        failed=values["failed"],
        words=_as_text(cursor, values.values()),
        claimed=claimed,
        finished=found.stamp("finished", options.finished),
        attempts=found.optional("attempts", options.attempts),
        error=error.name if error else None,
        error_length=error.typmod - 4 if error and error.typmod > 0 else None,
        order=found.order(),
        stuck_s=options.stuck_minutes * 60,
        embed_filled=options.filled == "embed",
        rest=options.rest,
        single=single,
        indexed=_is_indexed(indexes, {found.columns[part.name].number for part in key}),
        mark=_new_mark() if marked else int(transaction_id),
    )


def _new_mark() -> int:
    """A mark that no worker makes which keeps its times in milliseconds."""
    return secrets.randbelow(MARKS // 1_000) * 1_000 + 1 + secrets.randbelow(999)


def _as_text(cursor: Any, values: Iterable[sql.Composable]) -> tuple[str, ...]:
    """Returns values as the server shows them."""
    texts = (sql.SQL("{}::pg_catalog.text").format(value) for value in values)
    return tuple(cursor.execute(sql.SQL("SELECT {}").format(sql.SQL(", ").join(texts)), ()).fetchone())


def _is_indexed(indexes: list[Index], key: set[int]) -> bool:
    """Whether an index that contains all entries begins with a key column."""
    return any(index.whole and index.valid and index.columns[:1] and index.columns[0] in key for index in indexes)


def check_queue_table(connection: Connection, relation: Relation) -> None:
    """Plans the statements on the queue table, if there is one; the server runs nothing.

    Raises:
        ConfigError: a right is missing, or a column does not take what it gets.
    """
    queue = relation.queue
    if queue is None:
        return
    with transaction(connection, relation.access.reading, read_only=True) as cursor:
        for query in queue_table_sql.checks(relation):
            try:
                cursor.execute(query, ())
            except psycopg.errors.InsufficientPrivilege as error:
                role = sql.Identifier(relation.access.server.role).as_string()
                rights = "SELECT, DELETE" if queue.done is None else "SELECT"
                raise ConfigError(
                    f"{server_message(error)}: a queue table is read and updated: GRANT {rights}, UPDATE ON "
                    f"{queue.name.as_string()} TO {role}"
                ) from error
            except psycopg.errors.UndefinedFunction as error:
                raise ConfigError(
                    f"the key of the queue table {queue.label} cannot be compared with that of "
                    f"{relation.table.label}: {server_message(error)}: give --queue-key a column of the same type"
                ) from error
            except psycopg.Error as error:
                if is_transient(error):
                    raise
                raise ConfigError(
                    f"the queue table {queue.label} does not take what a run writes: {server_message(error)}: correct "
                    "[target.queue]"
                ) from error


def try_statuses(connection: Connection, relation: Relation) -> None:
    """Changes the status of a pending entry to each of ours and rolls back: a constraint or a trigger may refuse it.

    Raises:
        ConfigError: it does.
    """
    queue = relation.queue
    if queue is None:
        return
    with transaction(connection, relation.access.settings) as cursor:
        for option, query in queue_table_sql.trials(queue):
            try:
                with connection.transaction(force_rollback=True):
                    kept = all(row[0] for row in cursor.execute(query, ()).fetchall())
            except psycopg.Error as error:
                if is_transient(error):
                    raise
                kept, why = False, server_message(error)
            else:
                why = "a trigger changes it"
            if not kept:
                raise ConfigError(
                    f"the queue table {queue.label} does not take the status of {option}: {why}: write the value that "
                    "the table uses, or change the constraint or trigger"
                )
