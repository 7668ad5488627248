"""Known problems of the table, as warnings before a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.server import version_numbers
from vecfill.postgres.transaction import transaction

SOUND_PGVECTOR = (0, 8, 4)
"""0.8.2 fixed a buffer overflow in parallel HNSW builds, 0.8.3 and 0.8.4 fixed HNSW corruption by VACUUM."""

_HNSW = "SELECT m.oid FROM pg_catalog.pg_am AS m WHERE m.amname = 'hnsw'::pg_catalog.name"

_CHILDREN = """
SELECT pg_catalog.string_agg(n.nspname || '.' || c.relname, ', ' ORDER BY n.nspname, c.relname)
FROM pg_catalog.pg_inherits AS h
JOIN pg_catalog.pg_class AS c ON c.oid = h.inhrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE h.inhparent = $1::pg_catalog.oid AND NOT c.relispartition
"""


@dataclass(frozen=True, kw_only=True)
class KnownProblem:
    """A problem that does not prevent a run; as text, one line.

    Attributes:
        name: of the finding of ``doctor``.
        what: what there is.
        remedy: what to do about it.
        indexes: names of the indexes that it concerns.
    """

    name: str
    what: str
    remedy: str
    indexes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def known_problems(connection: Connection, relation: Relation) -> Iterator[KnownProblem]:
    """Yields each known problem of the table that does not prevent a run."""
    pgvector = relation.access.server.pgvector or ""
    if version_numbers(pgvector) < SOUND_PGVECTOR and (names := _hnsw(connection, relation)):
        yield KnownProblem(
            name="pgvector-version",
            what=f"pgvector {pgvector} has bugs that can damage HNSW indexes ({', '.join(names)}), in VACUUM and in "
            "parallel builds",
            remedy=f"install {'.'.join(map(str, SOUND_PGVECTOR))} or newer, ALTER EXTENSION vector UPDATE, and REINDEX",
            indexes=tuple(names),
        )
    for broken in (index.name for index in relation.table.indexes if index.on_column and not index.valid):
        yield KnownProblem(
            name="index-invalid",
            what=f"index {broken} on {relation.table.vector.name} is INVALID, probably after a failed CREATE INDEX "
            "CONCURRENTLY: searches do not use it but every write maintains it",
            remedy="run DROP INDEX or REINDEX",
            indexes=(broken,),
        )
    if relation.table.children and (children := _children(connection, relation)):
        yield KnownProblem(
            name="child-tables",
            what=f"skipping tables that inherit from {relation.table.label}: {children}",
            remedy="start a separate run for each",
        )


def _hnsw(connection: Connection, relation: Relation) -> list[str]:
    """Returns the names of the HNSW indexes on the column."""
    candidates = [index for index in relation.table.indexes if index.is_for_vectors]
    if not candidates:
        return []
    with transaction(connection, read_only=True) as cursor:
        methods = [oid for (oid,) in cursor.execute(_HNSW, ()).fetchall()]
    return [index.name for index in candidates if index.method in methods]


def _children(connection: Connection, relation: Relation) -> str | None:
    """Returns the names of the tables that inherit from it and are not partitions."""
    with transaction(connection, read_only=True) as cursor:
        row = cursor.execute(_CHILDREN, (relation.table.oid,)).fetchone()
    return row[0] if row else None
