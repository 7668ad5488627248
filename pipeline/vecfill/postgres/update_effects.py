"""Effects of an UPDATE of one target row on the server, read from the catalogue for the forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from vecfill.postgres.catalogue import USERS_TRIGGER
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction

UNKNOWN_WIDTH = 200
"""Assumed bytes of a row without its vector, if this role may not read all columns."""


@dataclass(frozen=True, kw_only=True)
class UpdateEffects:
    """Effects of an UPDATE of one row.

    Attributes:
        triggers: names of the row triggers that our UPDATE fires.
        publications: names of the publications that replicate it.
        indexes: number of indexes of the leaf with the biggest indexes; each gets a new entry.
        index_pages: their pages.
        width: bytes of a row in the heap, without the vector.
        full_pages: the first change of a page after a checkpoint logs the whole page.
    """

    triggers: tuple[str, ...]
    publications: tuple[str, ...]
    indexes: int
    index_pages: int
    width: int
    full_pages: bool


UPDATE_TRIGGER: LiteralString = f"""{USERS_TRIGGER}
  AND g.tgtype & 16 = 16  -- on UPDATE
  AND (g.tgattr::pg_catalog.text = '' OR EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = g.tgrelid AND a.attnum = ANY (g.tgattr) AND a.attname = ANY ($2::pg_catalog.text[])))
"""
"""Condition: a row ``g`` of ``pg_trigger`` is a user's trigger on the UPDATE of the columns ``$2``."""

_TRIGGERS: LiteralString = f"""
SELECT g.tgname FROM pg_catalog.pg_trigger AS g
WHERE g.tgrelid = ANY ($1::pg_catalog.oid[]) AND (g.tgenabled = 'O' OR g.tgenabled = 'A')
  AND g.tgtype & 1 = 1  -- for each row
  AND {UPDATE_TRIGGER}
"""  # noqa: S608 -- formatted from a constant

_PUBLICATIONS = """
SELECT DISTINCT t.pubname::pg_catalog.text
FROM pg_catalog.pg_publication_tables AS t -- including FOR ALL TABLES and TABLES IN SCHEMA
JOIN pg_catalog.pg_publication AS p ON p.pubname = t.pubname AND p.pubupdate
JOIN pg_catalog.pg_namespace AS n ON n.nspname = t.schemaname
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.tablename
WHERE c.oid = ANY ($1::pg_catalog.oid[]) OR c.oid IN (
  SELECT a.relid FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS t (relid)
  CROSS JOIN LATERAL pg_catalog.pg_partition_ancestors(t.relid::pg_catalog.regclass) AS a)
ORDER BY 1
"""

_WIDTH = "EXPLAIN (FORMAT JSON) SELECT {} FROM {}{}"
"""The planner's estimate of a row's width, from column statistics or its own defaults. Reading the statistics from the
view ``pg_stats`` costs 550 buffers."""


def update_effects(connection: Connection, relation: Relation) -> UpdateEffects:
    """Reads the effects of an UPDATE of the embedding column and of the columns that ``--set`` assigns."""
    indexes, pages = _most_indexes(relation)
    return UpdateEffects(
        triggers=_triggers(connection, relation) if relation.table.triggers else (),
        publications=_publications(connection, relation) if relation.access.server.publishes else (),
        indexes=indexes,
        index_pages=pages,
        width=_width(connection, relation),
        full_pages=relation.access.server.full_pages,
    )


def _triggers(connection: Connection, relation: Relation) -> tuple[str, ...]:
    parameters = (list(relation.table.tree), written_columns(relation))
    with transaction(connection, read_only=True) as cursor:
        return tuple(sorted({name for (name,) in cursor.execute(_TRIGGERS, parameters).fetchall()}))


def written_columns(relation: Relation) -> list[str]:
    """Returns the columns that a run assigns."""
    return [relation.table.vector.name, *(assigned for assigned, _ in relation.user_sql.assignments)]


def _publications(connection: Connection, relation: Relation) -> tuple[str, ...]:
    with transaction(connection, read_only=True) as cursor:
        return tuple(name for (name,) in cursor.execute(_PUBLICATIONS, (list(relation.table.tree),)).fetchall())


def listed_publications(connection: Connection, relation: Relation) -> tuple[str, ...]:
    """Returns the publications that send only a list of the table's columns, so that a new column is not sent."""
    if relation.access.server.version < COLUMN_LISTS:
        return ()
    with transaction(connection, read_only=True) as cursor:
        return tuple(name for (name,) in cursor.execute(_LISTED, (list(relation.table.tree),)).fetchall())


COLUMN_LISTS = 150_000
"""First version of PostgreSQL whose publications can have a list of columns."""

_LISTED = """
SELECT DISTINCT p.pubname::pg_catalog.text
FROM pg_catalog.pg_publication_rel AS r JOIN pg_catalog.pg_publication AS p ON p.oid = r.prpubid
WHERE r.prrelid = ANY ($1::pg_catalog.oid[]) AND r.prattrs IS NOT NULL ORDER BY 1
"""


def _most_indexes(relation: Relation) -> tuple[int, int]:
    """Returns number and pages of the indexes of the table or partition with the biggest indexes."""
    pages: dict[int, list[int]] = {}
    for index in relation.table.indexes:
        if index.ready:
            pages.setdefault(index.table, []).append(index.bytes // relation.access.server.block_bytes)
    return max(((len(of_one), sum(of_one)) for of_one in pages.values()), key=lambda one: one[::-1], default=(0, 0))


def _width(connection: Connection, relation: Relation) -> int:
    """Returns the bytes of a row of the biggest leaf, without the vector."""
    leaf = max(relation.table.leaves, key=lambda one: one.pages, default=None)
    names = [sql.Identifier(name) for name in relation.table.columns if name != relation.table.vector.name]
    if leaf is None or not names:
        return 0
    query = sql.SQL(_WIDTH).format(sql.SQL(", ").join(names), sql.SQL("ONLY " if leaf.only else ""), leaf.name)
    try:
        with transaction(connection, read_only=True) as cursor:
            row = cursor.execute(query, ()).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return UNKNOWN_WIDTH
    return int(row[0][0]["Plan"]["Plan Width"]) if row else UNKNOWN_WIDTH
