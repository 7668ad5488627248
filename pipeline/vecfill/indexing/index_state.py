"""One index that is to be built: what exists of it, its build beside the table's use, its place in its parent."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import psycopg

from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.index_sql import WantedIndex, attach_index, create_index, describe_index, drop_index
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

POLL_S = 0.5
"""Pause between looks at a build that another session goes on with."""


@dataclass(frozen=True, kw_only=True)
class BuildState:
    """What exists of an index.

    Attributes:
        exists: an index of this name exists.
        valid: it is whole, and searches use it.
        building: a session builds it; ``done`` is the share in percent, None if the server does not tell.
        attached: it is a part of its parent's index, or has none.
        elsewhere: the index of this name is on another table, or not on its column.
    """

    exists: bool = False
    valid: bool = False
    building: bool = False
    step: str | None = None
    done: float | None = None
    attached: bool = False
    elsewhere: bool = False


def state_of(cursor: Cursor, wanted: WantedIndex) -> BuildState:
    """Looks an index up in the catalogue."""
    row = cursor.execute(
        _STATE, (wanted.schema, wanted.name, wanted.parent, wanted.parent_schema, wanted.column)
    ).fetchone()
    if row is None:
        return BuildState()
    table, on_column, valid, pid, step, done, attached = row
    return BuildState(
        exists=True,
        valid=valid,
        building=pid is not None,
        step=step,
        done=None if done is None else float(done),
        attached=attached or wanted.parent is None,
        elsewhere=table != wanted.table_oid or not on_column,
    )


_STATE = """
SELECT i.indrelid, $5::pg_catalog.text IS NULL OR EXISTS (
    SELECT FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_attribute AS a
      ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attname = $5::pg_catalog.text
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid
      AND d.refobjid = i.indrelid),
  i.indisvalid AND i.indisready, p.pid, p.phase,
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


def build(connection: Connection, wanted: WantedIndex) -> bool:
    """Builds one index, unless it exists; may be repeated after any fault.

    Args:
        connection: in no transaction.
        wanted: the index.

    Returns:
        Whether it was built now.

    Raises:
        ConfigError: an index on another table or column has its name.
        psycopg.Error: the build failed; a part of it may remain.
    """
    state = _settled(connection, wanted)
    if state.elsewhere:
        column = f".{wanted.column}" if wanted.column else ""
        raise ConfigError(
            f"index {wanted.schema}.{wanted.name} exists, and is not on {wanted.table}{column}: rename it, since the "
            "index to build takes that name"
        )
    if state.valid or (state.exists and wanted.partitioned):
        return False
    if state.exists:
        log.warning("index %s is INVALID, left by a build that failed: building it again", wanted.name)
        connection.execute(drop_index(wanted))
    connection.execute(create_index(wanted))
    return True


def _settled(connection: Connection, wanted: WantedIndex) -> BuildState:
    """Waits for a build that the server goes on with, although its client has died."""
    said = False
    while True:
        with transaction(connection, read_only=True) as cursor:
            state = state_of(cursor, wanted)
        if not state.building:
            return state
        if not said:
            log.info("waiting for another session, which builds index %s", wanted.name)
            said = True
        time.sleep(POLL_S)


def describe(connection: Connection, wanted: WantedIndex, lock_timeout: float) -> None:
    """Gives an index its comment and its statistics targets."""
    if statements := list(describe_index(wanted)):
        with transaction(connection, {"lock_timeout": f"{lock_timeout * 1000:.0f}ms"}) as cursor:
            for statement in statements:
                cursor.execute(statement, ())


def attach(connection: Connection, wanted: WantedIndex, lock_timeout: float) -> None:
    """Attaches the index of a partition to the one of the whole table, unless it is."""
    with transaction(connection, {"lock_timeout": f"{lock_timeout * 1000:.0f}ms"}) as cursor:
        state = state_of(cursor, wanted)
        if not state.attached:
            cursor.execute(attach_index(wanted), ())


def lacks_shared_memory(error: psycopg.Error) -> bool:
    """Whether a parallel build failed because the server's shared memory is small, such as a container's 64 MB."""
    return error.sqlstate in ("53100", "53200") and "shared memory" in server_message(error)
