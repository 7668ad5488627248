"""What a migration will cost the server, and what the server does not tell: said before ``migrate start``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vecfill.backfill.forecast import MAX_ROWS, MAX_WAL_BYTES, row_bytes, size
from vecfill.postgres.database import Connection
from vecfill.postgres.migrate_sql import NewColumn
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction
from vecfill.postgres.update_effects import UpdateEffects
from vecfill.wording import count_of

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


@dataclass(frozen=True, kw_only=True)
class StartForecast:
    """The cost of a migration for the server; bytes are estimates.

    Attributes:
        rows: of the table, by its statistics.
        table_bytes: growth of the table, since each row is written anew; vacuum frees the old versions.
        index_bytes: of the new column's vector indexes.
        wal_bytes: WAL of the fill and of the indexes.
        database_bytes: size of the database now; None if this role may not ask.
        tablespace: of the table.
        free_bytes: free disk there; None if the server is on another machine: it does not tell.
        build_memory: ``maintenance_work_mem``, in bytes; a parallel build of HNSW takes as much shared memory.
        build_workers: ``max_parallel_maintenance_workers``.
        shared_memory: ``dynamic_shared_memory_type``.
        shared_bytes: free shared memory; None as for ``free_bytes``.
    """

    rows: int
    table_bytes: int
    index_bytes: int
    wal_bytes: int
    database_bytes: int | None
    tablespace: str
    free_bytes: int | None
    build_memory: int
    build_workers: int
    shared_memory: str
    shared_bytes: int | None

    @property
    def needed_bytes(self) -> int:
        """Disk that the migration takes at most until ``finish``, without WAL."""
        return self.table_bytes + self.index_bytes

    def lines(self, label: str) -> Iterator[str]:
        """Lines for the log."""
        yield (
            f"{label}: about {count_of(self.rows, 'row')} to write: the table grows by at most about "
            f"{size(self.table_bytes)}, the new vector indexes take about {size(self.index_bytes)}, and all of it "
            f"makes about {size(self.wal_bytes)} of WAL; until `migrate finish` both columns and all indexes exist"
        )
        now = "" if self.database_bytes is None else f"the database is {size(self.database_bytes)} now; "
        yield f"{now}{self._free()}"
        if self.index_bytes and self.build_workers:
            yield self._memory()

    def _free(self) -> str:
        where = f"in tablespace {self.tablespace}"
        if self.free_bytes is None:
            return f"free disk {where} is unknown, since the server does not tell: look for {size(self.needed_bytes)}"
        return f"{size(self.free_bytes)} are free {where}"

    def _memory(self) -> str:
        need = (
            f"a parallel build of HNSW takes up to {size(self.build_memory)} of shared memory (maintenance_work_mem, "
            f"or --index-memory of `migrate run`) with {count_of(self.build_workers, 'worker')}"
        )
        if self.shared_memory != "posix":
            return f"{need}, by dynamic_shared_memory_type {self.shared_memory}"
        if self.shared_bytes is None:
            return (
                f"{need}, in the server's /dev/shm, whose size it does not tell: if it is too small, such as a "
                "container's 64 MB, `migrate run` builds serially"
            )
        less = ": too little, so `migrate run` builds serially" if self.shared_bytes < self.build_memory else ""
        return f"{need}; {size(self.shared_bytes)} are free in /dev/shm{less}"

    def excess(self) -> str | None:
        """What needs a confirmation: too little disk, or more than a limit; None if nothing does."""
        if self.free_bytes is not None and self.needed_bytes > self.free_bytes:
            return f"the migration takes about {size(self.needed_bytes)}, and {size(self.free_bytes)} are free"
        if self.rows > MAX_ROWS:
            return f"about {self.rows:,} rows to write exceed the confirmation limit of {MAX_ROWS:,}"
        if self.wal_bytes > MAX_WAL_BYTES:
            return f"about {size(self.wal_bytes)} of WAL exceeds the confirmation limit of {size(MAX_WAL_BYTES)}"
        return None


def forecast_start(
    connection: Connection, relation: Relation, column: NewColumn, effects: UpdateEffects
) -> StartForecast:
    """Estimates the cost from the catalogue, without reading the table."""
    vector = replace(relation.table.vector, kind=column.kind, dim=column.dim)
    with transaction(connection, read_only=True) as cursor:
        leaves = [leaf.oid for leaf in relation.table.leaves]
        row = cursor.execute(_FACTS, (leaves, relation.table.oid)).fetchone() or (0, None, "pg_default", "", 0, 0, "")
    growth, wal = row_bytes(vector, effects)
    rows, database, tablespace, place, memory, workers, kind = row
    indexes = sum(index.bytes for index in relation.table.indexes if index.is_for_vectors)
    index_bytes = int(indexes * column.dim / (relation.table.vector.dim or column.dim))
    local = connection.info.host.startswith("/") and place.startswith("/") and Path(place).is_dir()
    return StartForecast(
        rows=rows,
        table_bytes=rows * growth,
        index_bytes=index_bytes,
        wal_bytes=rows * wal + index_bytes,
        database_bytes=database,
        tablespace=tablespace,
        free_bytes=_free(Path(place)) if local else None,
        build_memory=memory,
        build_workers=workers,
        shared_memory=kind,
        shared_bytes=_free(SHARED_MEMORY) if local else None,
    )


def _free(place: Path) -> int | None:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


_FACTS = """
SELECT (SELECT COALESCE(pg_catalog.sum(GREATEST(c.reltuples, 0)), 0)::pg_catalog.int8 FROM pg_catalog.pg_class AS c
    WHERE c.oid = ANY ($1::pg_catalog.oid[])),
  CASE WHEN pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CONNECT')
    THEN pg_catalog.pg_database_size(pg_catalog.current_database()) END,
  s.spcname::pg_catalog.text,
  COALESCE(NULLIF(pg_catalog.pg_tablespace_location(s.oid), ''),
    CASE WHEN pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE')
      THEN pg_catalog.current_setting('data_directory') END, ''),
  pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem')),
  pg_catalog.current_setting('max_parallel_maintenance_workers')::pg_catalog.int4,
  pg_catalog.current_setting('dynamic_shared_memory_type')
FROM pg_catalog.pg_class AS t JOIN pg_catalog.pg_database AS d ON d.datname = pg_catalog.current_database()
JOIN pg_catalog.pg_tablespace AS s ON s.oid = COALESCE(NULLIF(t.reltablespace, 0::pg_catalog.oid), d.dattablespace)
WHERE t.oid = $2::pg_catalog.oid
"""
