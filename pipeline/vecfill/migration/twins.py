"""The twins of a column's indexes: planned from the catalogue, built beside the table's use, attached."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import psycopg

from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.migrate_sql import (
    INDEXES,
    NewColumn,
    Twin,
    attach_twin,
    create_twin,
    drop_index,
    suffixed,
    twin_definition,
)
from vecfill.postgres.relation import Relation, VectorColumn
from vecfill.postgres.session import transaction

log = logging.getLogger(__name__)

SUFFIX = "_next"

POLL_S = 0.5
"""Pause between looks at a build that another session goes on with."""


def plan_twins(connection: Connection, relation: Relation, column: NewColumn) -> list[Twin]:
    """Returns the twins that the indexes on the target's embedding column need, in the order in which to build them.

    Indexes that are INVALID or unique have none.
    """
    with transaction(connection, {"search_path": ""}, read_only=True) as cursor:
        rows = cursor.execute(INDEXES, (list(relation.table.tree),)).fetchall()
        quote = "SELECT pg_catalog.format('%I', $1::pg_catalog.text)"
        (old,) = cursor.execute(quote, (relation.table.vector.name,)).fetchone() or ("",)
    wanted = {(index.table, index.name) for index in relation.table.indexes if index.on_column and not index.unique}
    found = {row[0]: row for row in rows if (row[3], row[1]) in wanted and row[-1]}
    return [_twin(row, found, relation.table.vector, old, column) for row in found.values()]


def _twin(
    row: tuple[Any, ...], found: dict[int, tuple[Any, ...]], vector: VectorColumn, old: str, column: NewColumn
) -> Twin:
    _, name, schema, table_oid, table, partitioned, parent, definition, quoted, _ = row
    above = found.get(parent)
    _, _, rest = definition.removeprefix(f"CREATE INDEX {quoted} ON ").partition(f"{table} ")
    return Twin(
        old=name,
        name=suffixed(name, SUFFIX),
        schema=schema,
        table=table,
        table_oid=table_oid,
        partitioned=partitioned,
        parent=suffixed(above[1], SUFFIX) if above else None,
        parent_schema=above[2] if above else None,
        rest=twin_definition(rest, old, vector.dim, vector.kind, column),
    )


@dataclass(frozen=True, kw_only=True)
class TwinState:
    """What exists of a twin.

    Attributes:
        exists: an index of this name exists.
        valid: it is whole, and searches use it.
        building: a session builds it; ``done`` is the share in percent, None if the server does not tell.
        attached: it is a part of its parent's twin, or has none.
        elsewhere: the index of this name is on another table.
    """

    exists: bool = False
    valid: bool = False
    building: bool = False
    step: str | None = None
    done: float | None = None
    attached: bool = False
    elsewhere: bool = False


def state_of(cursor: Cursor, twin: Twin) -> TwinState:
    """Looks a twin up in the catalogue."""
    row = cursor.execute(_STATE, (twin.schema, twin.name, twin.parent, twin.parent_schema)).fetchone()
    if row is None:
        return TwinState()
    table, valid, pid, step, done, attached = row
    return TwinState(
        exists=True,
        valid=valid,
        building=pid is not None,
        step=step,
        done=None if done is None else float(done),
        attached=attached or twin.parent is None,
        elsewhere=table != twin.table_oid,
    )


_STATE = """
SELECT i.indrelid, i.indisvalid AND i.indisready, p.pid, p.phase,
  pg_catalog.round(100.0 * COALESCE(NULLIF(p.tuples_done, 0), p.blocks_done)
    / NULLIF(CASE WHEN p.tuples_done = 0 THEN p.blocks_total ELSE p.tuples_total END, 0), 1)::pg_catalog.float8,
  EXISTS (SELECT FROM pg_catalog.pg_inherits AS h JOIN pg_catalog.pg_class AS u ON u.oid = h.inhparent
    WHERE h.inhrelid = c.oid AND u.relname = $3::pg_catalog.text
      AND u.relnamespace = (SELECT s.oid FROM pg_catalog.pg_namespace AS s WHERE s.nspname = $4::pg_catalog.text))
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = $1::pg_catalog.text
JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid
LEFT JOIN pg_catalog.pg_stat_progress_create_index AS p ON p.index_relid = c.oid AND p.datname = current_database()
WHERE c.relname = $2::pg_catalog.text
"""


def build(connection: Connection, twin: Twin) -> bool:
    """Builds one twin, unless it exists; may be repeated after any fault.

    Args:
        connection: in no transaction.
        twin: the index.

    Returns:
        Whether it was built now.

    Raises:
        ConfigError: an index on another table has its name.
        psycopg.Error: the build failed; a part of it may remain.
    """
    state = _settled(connection, twin)
    if state.elsewhere:
        raise ConfigError(
            f"index {twin.schema}.{twin.name} exists, and is on another table than {twin.table}: rename it, since the "
            f"new index beside {twin.old} takes that name"
        )
    if state.valid or (state.exists and twin.partitioned):
        return False
    if state.exists:
        log.warning("index %s is INVALID, left by a build that failed: building it again", twin.name)
        connection.execute(drop_index(twin))
    connection.execute(create_twin(twin))
    return True


def _settled(connection: Connection, twin: Twin) -> TwinState:
    """Waits for a build that the server goes on with, although its client has died."""
    said = False
    while True:
        with transaction(connection, read_only=True) as cursor:
            state = state_of(cursor, twin)
        if not state.building:
            return state
        if not said:
            log.info("waiting for another session, which builds index %s", twin.name)
            said = True
        time.sleep(POLL_S)


def attach(connection: Connection, twin: Twin, lock_timeout: float) -> None:
    """Attaches the twin of a partition to the one of the whole table, unless it is."""
    with transaction(connection, {"lock_timeout": f"{lock_timeout * 1000:.0f}ms"}) as cursor:
        state = state_of(cursor, twin)
        if not state.attached:
            cursor.execute(attach_twin(twin), ())


def lacks_shared_memory(error: psycopg.Error) -> bool:
    """Whether a parallel build failed because the server's shared memory is small, such as a container's 64 MB."""
    return error.sqlstate in ("53100", "53200") and "shared memory" in server_message(error)
