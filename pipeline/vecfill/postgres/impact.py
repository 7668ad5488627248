"""What an UPDATE of one row of the target sets off on the server: read from the catalogue, for the forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

from vecfill.postgres.catalogue import USERS_TRIGGER
from vecfill.postgres.session import Connection, Cursor, transaction
from vecfill.postgres.target import Relation

UNKNOWN_WIDTH = 200
"""Bytes of a row beside its vector where the table was never analysed."""


@dataclass(frozen=True, kw_only=True)
class Impact:
    """The company that a row is in.

    Attributes:
        triggers: names of the row triggers that our UPDATE fires.
        publications: names of the publications that send it on.
        indexes: all indexes of the leaf that has the most; each gets a new entry.
        index_pages: their pages.
        width: bytes of a row as it lies in the heap, without the vector.
        full_pages: the first change of a page after a checkpoint logs the whole page.
    """

    triggers: tuple[str, ...]
    publications: tuple[str, ...]
    indexes: int
    index_pages: int
    width: int
    full_pages: bool


_TREE = """
SELECT pg_catalog.array_agg(relid) FROM (
  SELECT $1::pg_catalog.regclass::pg_catalog.oid AS relid
  UNION SELECT p.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1::pg_catalog.regclass) AS p) AS tree
"""
"""The table and its partitions: ``$1`` of what follows."""

_TRIGGERS: LiteralString = f"""
SELECT DISTINCT g.tgname::pg_catalog.text FROM pg_catalog.pg_trigger AS g
WHERE g.tgrelid = ANY ($1) AND {USERS_TRIGGER} AND g.tgenabled IN ('O', 'A')
  AND g.tgtype & 17 = 17  -- for each row, on UPDATE
  AND (g.tgattr::pg_catalog.text = '' OR EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = g.tgrelid AND a.attnum = ANY (g.tgattr) AND a.attname = ANY ($2::pg_catalog.text[])))
ORDER BY 1
"""  # noqa: S608 -- of a constant

_PUBLICATIONS = """
SELECT DISTINCT t.pubname::pg_catalog.text
FROM pg_catalog.pg_publication_tables AS t -- of all tables too, and of schemas
JOIN pg_catalog.pg_publication AS p ON p.pubname = t.pubname AND p.pubupdate
JOIN pg_catalog.pg_namespace AS n ON n.nspname = t.schemaname
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.tablename
WHERE c.oid = ANY ($1) OR c.oid IN (
  SELECT a.relid FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS t (relid)
  CROSS JOIN LATERAL pg_catalog.pg_partition_ancestors(t.relid::pg_catalog.regclass) AS a)
ORDER BY 1
"""

_INDEXES = """
SELECT pg_catalog.count(*)::pg_catalog.int4 AS indexes, (pg_catalog.sum(pg_catalog.pg_relation_size(i.indexrelid))
  / pg_catalog.current_setting('block_size')::pg_catalog.int8)::pg_catalog.int8
FROM pg_catalog.pg_index AS i
WHERE i.indrelid = ANY ($1) AND i.indisready
GROUP BY i.indrelid ORDER BY 2 DESC, 1 DESC LIMIT 1
"""

_NAME = """
SELECT n.nspname, c.relname
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = $1::pg_catalog.regclass
"""

_WIDTH = """
SELECT pg_catalog.sum((1 - s.null_frac) * s.avg_width)::pg_catalog.int8
FROM pg_catalog.pg_stats AS s
WHERE s.schemaname = $1::pg_catalog.name AND s.tablename = $2::pg_catalog.name AND NOT s.inherited AND s.attname <> $3
"""
"""By name alone: joined to anything, the view reads the whole catalogue (10,000 buffers of an empty database)."""

_FULL_PAGES = "SELECT pg_catalog.current_setting('full_page_writes') = 'on'"


def impact_of(connection: Connection, relation: Relation) -> Impact:
    """Reads what an UPDATE of the embedding column, and of what ``--set`` assigns, sets off."""
    written = [relation.vector.name, *(assigned for assigned, _ in relation.assignments)]
    with transaction(connection, read_only=True) as cursor:
        tree = (cursor.execute(_TREE, (relation.name.as_string(),)).fetchone() or (None,))[0]

        def names(query: LiteralString, *more: Any) -> tuple[str, ...]:
            return tuple(name for (name,) in cursor.execute(query, (tree, *more)).fetchall())

        width = _width(cursor, relation)
        indexes, pages = cursor.execute(_INDEXES, (tree,)).fetchone() or (0, 0)
        return Impact(
            triggers=names(_TRIGGERS, written),
            publications=names(_PUBLICATIONS),
            indexes=indexes,
            index_pages=pages,
            width=width,
            full_pages=(cursor.execute(_FULL_PAGES, ()).fetchone() or (True,))[0],
        )


def _width(cursor: Cursor, relation: Relation) -> int:
    """Bytes of a row of the biggest leaf, without the vector, by the statistics that this role may see."""
    leaf = max(relation.leaves, key=lambda one: one.pages, default=None)
    name = cursor.execute(_NAME, (leaf.name.as_string(),)).fetchone() if leaf else None
    found = cursor.execute(_WIDTH, (*name, relation.vector.name)).fetchone() if name else None
    return UNKNOWN_WIDTH if found is None or found[0] is None else int(found[0])
