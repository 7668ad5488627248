"""What about the server and the table is too old to work, or worth a warning before a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psycopg import sql

from vecfill.errors import ConfigError

LEAST_SERVER = 14
"""PostgreSQL with a TID Range Scan, without which each block would read the whole table."""

LEAST_PGVECTOR = (0, 5)

SOUND_PGVECTOR = (0, 8, 4)
"""0.8.2 fixed a buffer overflow in parallel builds of HNSW indexes, 0.8.3 and 0.8.4 their corruption by VACUUM."""

_PGVECTOR = "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'vector'"

_TREE = "SELECT $1::pg_catalog.oid UNION SELECT p.relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.regclass) AS p"

_INDEXES = f"""
SELECT c.relname::pg_catalog.text, m.amname::pg_catalog.text, i.indisvalid
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
WHERE i.indrelid IN ({_TREE}) AND EXISTS (
  SELECT FROM pg_catalog.pg_depend AS d
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attname = $2
  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid)
ORDER BY 1
"""  # noqa: S608 -- of constants
"""Indexes on the column or on an expression of it."""

_CHILDREN = """
SELECT pg_catalog.string_agg(n.nspname || '.' || c.relname, ', ' ORDER BY n.nspname, c.relname)
FROM pg_catalog.pg_inherits AS h
JOIN pg_catalog.pg_class AS c ON c.oid = h.inhrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE h.inhparent = $1 AND NOT c.relispartition
"""


def check_versions(server: int, pgvector: str | None) -> None:
    """Checks that the server is one that our statements work on.

    Args:
        server: as libpq gives it, such as 160004.
        pgvector: version of the extension; None where it is not installed, and the column holds ``real[]``.

    Raises:
        ConfigError: one is too old.
    """
    if server // 10_000 < LEAST_SERVER:
        raise ConfigError(f"the server is PostgreSQL {server // 10_000}: {LEAST_SERVER} or newer is needed: upgrade it")
    if pgvector is not None and _numbers(pgvector) < LEAST_PGVECTOR:
        raise ConfigError(
            f"pgvector is at version {pgvector}: {'.'.join(map(str, LEAST_PGVECTOR))} or newer is needed: install it, "
            "then ALTER EXTENSION vector UPDATE"
        )


def pgvector_version(cursor: Any) -> str | None:
    """The version of the extension in this database; None where it is not installed."""
    row = cursor.execute(_PGVECTOR, ()).fetchone()
    return row[0] if row else None


def advice(cursor: Any, name: sql.Composable, label: str, column: str) -> Iterator[str]:
    """One line for each thing about a table that a run should know of, and that does not keep it from working.

    Args:
        cursor: from ``transaction``.
        name: the table.
        label: ``schema.table``, for the lines.
        column: its embedding column.
    """
    (oid,) = cursor.execute("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", (name.as_string(),)).fetchone()
    indexes = cursor.execute(_INDEXES, (oid, column)).fetchall()
    yield from _of_indexes(indexes, pgvector_version(cursor) or "", column)
    (children,) = cursor.execute(_CHILDREN, (oid,)).fetchone()
    if children:
        yield f"tables that inherit from {label} are left out: {children}: a run of its own fills each"


def _of_indexes(indexes: list[tuple[str, str, bool]], pgvector: str, column: str) -> Iterator[str]:
    hnsw = [name for name, method, _ in indexes if method == "hnsw"]
    if hnsw and _numbers(pgvector) < SOUND_PGVECTOR:
        yield (
            f"pgvector {pgvector} has bugs that can damage HNSW indexes ({', '.join(hnsw)}), in VACUUM and in parallel "
            f"builds: install {'.'.join(map(str, SOUND_PGVECTOR))} or newer, ALTER EXTENSION vector UPDATE, and REINDEX"
        )
    for broken in (name for name, _, valid in indexes if not valid):
        yield (
            f"index {broken} on {column} is INVALID, as a CREATE INDEX CONCURRENTLY that failed leaves it: no search "
            "uses it and each write pays for it: DROP INDEX it, or REINDEX"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """``0.8.1`` as (0, 8, 1); what is no number ends it."""
    parts: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)
