"""The DDL of a migration to another column, and the twins of indexes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import LiteralString

from psycopg import sql

from vecfill.postgres.index_sql import WantedIndex
from vecfill.postgres.relation import Relation
from vecfill.postgres.template import verbatim_sql

MAX_NAME = 63
"""Bytes of an identifier."""

MAX_INDEXED = {"vector": 2_000, "halfvec": 4_000}
"""Most dimensions that an HNSW or IVFFlat index takes, by type."""


def suffixed(name: str, suffix: str) -> str:
    """Returns a name with a suffix; one that the server would cut is shortened to a part of it and of its hash."""
    whole = name.encode()
    if len(whole) + len(suffix) > MAX_NAME:
        suffix = f"_{sha256(whole).hexdigest()[:8]}{suffix}"
    return whole[: MAX_NAME - len(suffix)].decode(errors="ignore") + suffix


@dataclass(frozen=True, kw_only=True)
class NewColumn:
    """The column for the new vectors.

    Attributes:
        name: not yet taken.
        kind: one of the values of ``VECTOR_KINDS``.
        dim: dimension of the new model.
        schema: of pgvector; None for an array.
        placeholder: it has a vector of zeros as its default, as the old one has.
        not_null: name of its NOT NULL constraint; only with a placeholder.
    """

    name: str
    kind: str
    dim: int
    schema: str | None
    placeholder: bool = False
    not_null: str | None = None

    @property
    def type(self) -> sql.Composable:
        """Its type in SQL."""
        if self.schema is None:
            return verbatim_sql(self.kind)
        return sql.SQL("{}.{}({})").format(
            sql.Identifier(self.schema), sql.Identifier(self.kind), sql.Literal(self.dim)
        )


def add_column(relation: Relation, column: NewColumn) -> sql.Composed:
    """Adds the column; without a default, or with a constant one, no row is written."""
    zeros = sql.Literal(f"[{','.join('0' * column.dim)}]")
    default = sql.SQL(" DEFAULT {}").format(zeros) if column.placeholder else sql.SQL("")
    filled = (
        sql.SQL(" CONSTRAINT {} NOT NULL").format(sql.Identifier(column.not_null)) if column.not_null else sql.SQL("")
    )
    return sql.SQL("ALTER TABLE {} ADD COLUMN {} {}{}{}").format(
        relation.table.name, sql.Identifier(column.name), column.type, default, filled
    )


def drop_column(relation: Relation, name: str) -> sql.Composed:
    """Drops a column with its indexes; other objects that use it keep the server from it."""
    return sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(relation.table.name, sql.Identifier(name))


def lock_table(relation: Relation, mode: LiteralString = "ACCESS EXCLUSIVE") -> sql.Composed:
    """Takes a lock of the table and its partitions; by default the one that all further statements need."""
    return sql.SQL("LOCK TABLE {} IN {} MODE").format(relation.table.name, sql.SQL(mode))


BEYOND_DEADLOCK_TIMEOUT = """
SELECT pg_catalog.set_config('lock_timeout', (s.setting::pg_catalog.int8 + 500)::pg_catalog.text, true)
FROM pg_catalog.pg_settings AS s WHERE s.name OPERATOR(pg_catalog.=) 'deadlock_timeout'
"""
"""Has the transaction wait for each lock until half a second after the server has looked who is in the way; in ms."""

HOLDERS = """
SELECT a.pid, COALESCE(NULLIF(a.application_name, ''), a.backend_type), a.state
FROM pg_catalog.pg_stat_activity AS a
WHERE a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid() AND EXISTS (
  SELECT FROM pg_catalog.pg_locks AS l
  WHERE l.pid OPERATOR(pg_catalog.=) a.pid AND l.granted AND l.database OPERATOR(pg_catalog.=) a.datid
    AND l.relation OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[]))
ORDER BY a.xact_start LIMIT 3
"""
"""The sessions that have locked one of these tables for longest; what this role may not see of them is NULL."""


_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|::|\s+|.""", re.DOTALL)


def twin_definition(rest: str, old: str, old_dim: int | None, kind: str, column: NewColumn) -> str:
    """Rewrites the part of an index's definition from USING on for another column.

    Args:
        rest: as ``pg_get_indexdef`` writes it with an empty search path.
        old: the old column's name, quoted as in ``rest``.
        old_dim: its dimension; casts to it are made to the new one.
        kind: its type.
        column: the new column.
    """
    new = sql.Identifier(column.name).as_string()
    found = _with_column(rest, old, old_dim, column, only_casts=True)
    indexed = "halfvec" if column.kind == "vector" and column.dim > MAX_INDEXED["vector"] else column.kind
    if found.startswith(("USING hnsw", "USING ivfflat")) and column.schema is not None:
        found = _as_kind(found, new, kind, indexed, column)
    return found


def twin_check(definition: str, old: str, old_dim: int | None, column: NewColumn) -> str:
    """Rewrites a CHECK constraint on the old column alone for another column and its dimension."""
    return _with_column(definition, old, old_dim, column, only_casts=False)


def _with_column(text: str, old: str, old_dim: int | None, column: NewColumn, *, only_casts: bool) -> str:
    """Names another column, and its dimension: in casts, or as any number."""
    new = sql.Identifier(column.name).as_string()
    tokens = _TOKEN.findall(text)
    solid = [place for place, token in enumerate(tokens) if not token.isspace()]
    before = dict(zip(solid[1:], (tokens[place] for place in solid), strict=False))
    after = dict(zip(solid, (tokens[place] for place in solid[1:]), strict=False))
    for place in solid:
        token = tokens[place]
        if token == old and before.get(place) not in (".", "::") and after.get(place) not in ("(", "."):
            tokens[place] = new
        elif token == str(old_dim) and (not only_casts or (before.get(place), after.get(place)) == ("(", ")")):
            tokens[place] = str(column.dim)
    return "".join(tokens)


def _as_kind(rest: str, new: str, kind: str, indexed: str, column: NewColumn) -> str:
    """Has a vector index on the column itself compare another type: its operator class, and a cast where needed."""
    plain = re.match(rf"(USING \w+ \(){re.escape(new)}(?: ([^()]*?))?\)", rest)
    if plain is None or (indexed == kind == column.kind):
        return rest
    schema = sql.Identifier(column.schema or "").as_string()
    classes = plain[2] or f"{schema}.{kind}_l2_ops"
    classes = re.sub(rf"\b{kind}_(\w+)_ops\b", rf"{indexed}_\1_ops", classes)
    operand = new if indexed == column.kind else f"(({new})::{schema}.{indexed}({column.dim}))"
    return f"{plain[1]}{operand} {classes}){rest[plain.end() :]}"


@dataclass(frozen=True, kw_only=True)
class Twin(WantedIndex):
    """The index on the new column that stands for the one on the old whose name is ``old``."""

    old: str


INDEXES = """
SELECT i.indexrelid, c.relname::pg_catalog.text, n.nspname::pg_catalog.text, i.indrelid,
  pg_catalog.format('%I.%I', tn.nspname, t.relname), c.relkind::pg_catalog.text OPERATOR(pg_catalog.=) 'I',
  (SELECT h.inhparent FROM pg_catalog.pg_inherits AS h WHERE h.inhrelid OPERATOR(pg_catalog.=) i.indexrelid),
  pg_catalog.pg_get_indexdef(i.indexrelid), pg_catalog.format('%I', c.relname), i.indisvalid AND i.indisready,
  (SELECT s.spcname::pg_catalog.text FROM pg_catalog.pg_tablespace AS s
    WHERE s.oid OPERATOR(pg_catalog.=) c.reltablespace),
  pg_catalog.obj_description(i.indexrelid, 'pg_class'),
  ARRAY(SELECT ARRAY[a.attnum::pg_catalog.int4, a.attstattarget::pg_catalog.int4] FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid OPERATOR(pg_catalog.=) i.indexrelid AND a.attstattarget OPERATOR(pg_catalog.>=) 0 ORDER BY 1)
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
JOIN pg_catalog.pg_class AS t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
JOIN pg_catalog.pg_namespace AS tn ON tn.oid OPERATOR(pg_catalog.=) t.relnamespace
WHERE i.indrelid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[])
ORDER BY c.relkind OPERATOR(pg_catalog.<>) 'I', (
  SELECT pg_catalog.count(*) FROM pg_catalog.pg_partition_ancestors(i.indrelid::pg_catalog.regclass)), c.relname
"""
"""The indexes of a table and its partitions; those that others are attached to first, the topmost before the rest."""
