"""What became of a table while an index of it was gone: renamed, dropped, parted, or indexed by somebody else."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from dataclasses import replace

from vecfill.indexing.dropping import EMPTY_PATH
from vecfill.ledger.waiting_indexes import note_waiting
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.index_sql import VECTOR_INDEXES, SavedIndex, WantedIndex, saved_index
from vecfill.postgres.migrate_sql import suffixed
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)


def located(connection: Connection, relation: Relation) -> list[SavedIndex]:
    """Returns the waiting indexes of a target for its tables as they are now; forgets those of tables that are gone.

    Args:
        connection: to the target's database.
        relation: the target, with the lease of this run.

    Raises:
        LeaseError: another run has taken over.
    """
    found: list[SavedIndex] = []

    def change(waiting: list[SavedIndex]) -> list[SavedIndex]:
        found[:] = [now for one in waiting if (now := _located(cursor, one))]
        return found

    with transaction(connection, EMPTY_PATH) as cursor:
        note_waiting(cursor, relation, change)
    return found


def _located(cursor: Cursor, one: SavedIndex) -> SavedIndex | None:
    """Returns an index with the present name of its table, and alone if that is no partition any more.

    None, with a warning, if the table was dropped. After a restore from a dump the table has another oid.
    """
    row = cursor.execute(_TABLE, (one.table_oid, one.table)).fetchone()
    if row is None:
        log.warning("index %s is not built again, since its table was dropped: %s", one.label, one.definition)
        return None
    oid, schema, table, parent_schema = row
    part = bool(one.parent and parent_schema)
    return replace(
        one,
        table_oid=oid,
        schema=schema,
        table=table,
        parent=one.parent if part else None,
        parent_schema=parent_schema if part else None,
    )


_TABLE = """
SELECT c.oid, n.nspname::pg_catalog.text, pg_catalog.format('%I.%I', n.nspname, c.relname),
  (SELECT m.nspname FROM pg_catalog.pg_inherits AS h JOIN pg_catalog.pg_class AS u ON u.oid = h.inhparent
    JOIN pg_catalog.pg_namespace AS m ON m.oid = u.relnamespace
    WHERE h.inhrelid = c.oid AND u.relkind = 'p')::pg_catalog.text
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = COALESCE(
  (SELECT k.oid FROM pg_catalog.pg_class AS k WHERE k.oid = $1::pg_catalog.oid AND k.relkind IN ('r', 'p', 'm')),
  pg_catalog.to_regclass($2::pg_catalog.text)::pg_catalog.oid)
"""


def in_its_place(connection: Connection, one: SavedIndex, waiting: Set[str]) -> str | None:
    """Returns the name of a valid index that somebody else has built in place of one that waits; None if there is none.

    It has the same name, or the same definition and none of the names ``waiting``.
    """
    with transaction(connection, EMPTY_PATH, read_only=True) as cursor:
        rows = cursor.execute(VECTOR_INDEXES, ([one.table_oid],)).fetchall()
    found = [index for index in map(saved_index, rows) if index.valid]
    for index in found:
        if index.name == one.name:
            if index.rest != one.rest:
                log.warning("index %s is %s now; it was: %s", one.label, index.definition, one.definition)
            return index.name
    return next((index.name for index in found if index.rest == one.rest and index.label not in waiting), None)


def new_parts(connection: Connection, frame: WantedIndex, known: Sequence[WantedIndex]) -> list[WantedIndex]:
    """Returns what a partitioned index lacks on partitions that came while it was gone.

    Args:
        connection: to the target's database.
        frame: the partitioned index, which exists.
        known: its parts so far.
    """
    covered = [one.table_oid for one in known if (one.parent, one.parent_schema) == (frame.name, frame.schema)]
    with transaction(connection, EMPTY_PATH, read_only=True) as cursor:
        rows = cursor.execute(_PARTS, (frame.table_oid, frame.name, frame.schema, covered)).fetchall()
    return [
        WantedIndex(
            name=suffixed(table, f"_{frame.name.encode()[:40].decode(errors='ignore')}"),
            schema=schema,
            table=name,
            table_oid=oid,
            partitioned=partitioned,
            parent=frame.name,
            parent_schema=frame.schema,
            rest=frame.rest,
        )
        for oid, schema, table, name, partitioned in rows
    ]


_PARTS = """
SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, pg_catalog.format('%I.%I', n.nspname, c.relname),
  c.relkind = 'p'::pg_catalog."char"
FROM pg_catalog.pg_inherits AS h JOIN pg_catalog.pg_class AS c ON c.oid = h.inhrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE h.inhparent = $1::pg_catalog.oid AND c.relkind IN ('r', 'p') AND c.oid <> ALL ($4::pg_catalog.oid[])
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_inherits AS a ON a.inhrelid = i.indexrelid
    JOIN pg_catalog.pg_class AS u ON u.oid = a.inhparent
    JOIN pg_catalog.pg_namespace AS m ON m.oid = u.relnamespace
    WHERE i.indrelid = c.oid AND u.relname = $2::pg_catalog.name AND m.nspname = $3::pg_catalog.name)
ORDER BY c.relname
"""
