"""Finds the migration of a target, and what every step of it needs to know."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from vecfill.config.target import Target
from vecfill.errors import ConfigError, LeaseError
from vecfill.ledger.migrations import Migration, find_migration
from vecfill.ledger.registry import condition_of
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction


@dataclass(frozen=True, kw_only=True)
class Found:
    """A migration with its table.

    Attributes:
        migration: as the ledger has it.
        relation: the table, with one of its two columns as the embedding column.
        digest: of the new model's fingerprint.
        placeholder: the new column has a vector of zeros as its default, which counts as missing.
    """

    migration: Migration
    relation: Relation
    digest: str
    placeholder: bool

    def new_target(self, target: Target) -> Target:
        """Returns the target with the new column."""
        zeros = target.zero_is_missing or self.placeholder
        return replace(target, column=self.migration.new_column, dim=None, zero_is_missing=zeros)


def find(connection: Connection, target: Target) -> Found | None:
    """Looks for the migration of a target by its old column or its new one; None if there never was one.

    Raises:
        ConfigError: no such table or column.
    """
    schema, bare = target.state_schema, replace(target, text=None, text_sql=None, set=(), key=(), dim=None)
    found = None
    with transaction(connection, read_only=True) as cursor:
        oid = _oid(cursor, target.table)
        if oid and (migration := find_migration(cursor, schema, oid, target.column, condition_of(target))):
            query = sql.SQL("SELECT fingerprint FROM {} WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4")
            row = cursor.execute(query.format(sql.Identifier(schema, "model")), (migration.model,)).fetchone()
            found = migration, row[0] if row else ""
    if found and found[0].ended:
        bare = replace(bare, column=found[0].kept)
    relation = inspect(connection, bare, text_needed=False, key_needed=False)
    if found is None:
        return None
    with transaction(connection, read_only=True) as cursor:
        placeholder = has_default(cursor, relation, found[0].new_column)
    return Found(migration=found[0], relation=relation, digest=found[1], placeholder=placeholder)


def _oid(cursor: Cursor, table: str) -> int | None:
    """The table's oid; None if there is none, or if the name is not one: ``inspect`` says what is wrong with it."""
    try:
        with cursor.connection.transaction():
            row = cursor.execute("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", (table,)).fetchone()
    except psycopg.Error:
        return None
    return row[0] if row else None


def need(connection: Connection, target: Target) -> Found:
    """Finds the migration of a target.

    Raises:
        ConfigError: there never was one.
    """
    found = find(connection, target)
    if found is None:
        raise ConfigError(
            f"no migration of {target.table}.{target.column} has been started: run `vecfill migrate start` first, or "
            "name the column by --column"
        )
    return found


def check_owner(connection: Connection, relation: Relation, ledger: str, *, drops: bool = False) -> None:
    """Checks that this role may change the table and the ledger, and unless it only ``drops``, build and name indexes.

    Raises:
        ConfigError: it may not.
    """
    with transaction(connection, read_only=True) as cursor:
        row = cursor.execute(_OWNER, (relation.table.oid, ledger)).fetchone()
    owner, owns, ledger_owner, owns_ledger, schema, may_create = row or ("?", False, "?", False, "?", False)
    role = relation.access.server.role
    for whose, yes, remedy in (
        (relation.table.label, owns, f"run it as {owner}"),
        (f"the ledger in schema {ledger}", owns_ledger, f"run it as {ledger_owner}"),
    ):
        if not yes:
            raise ConfigError(f"a migration changes {whose}, which role {role} does not own: {remedy}")
    if not (may_create or drops):
        raise ConfigError(
            f"a migration builds indexes in schema {schema}, where role {role} may not: GRANT CREATE ON SCHEMA "
            f"{sql.Identifier(schema).as_string()} TO {sql.Identifier(role).as_string()}"
        )


_OWNER = """
SELECT pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text, pg_catalog.pg_has_role(c.relowner, 'USAGE'),
  pg_catalog.pg_get_userbyid(l.nspowner)::pg_catalog.text, pg_catalog.pg_has_role(l.nspowner, 'USAGE'),
  n.nspname::pg_catalog.text, pg_catalog.has_schema_privilege(n.oid, 'CREATE')
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_namespace AS l ON l.nspname = $2::pg_catalog.text
WHERE c.oid = $1::pg_catalog.oid
"""


def has_default(cursor: Cursor, relation: Relation, column: str) -> bool:
    """Whether a column has a default; that of a new column is a placeholder."""
    row = cursor.execute(_DEFAULT, (relation.table.oid, column)).fetchone()
    return bool(row and row[0])


_DEFAULT = """
SELECT atthasdef FROM pg_catalog.pg_attribute
WHERE attrelid = $1::pg_catalog.oid AND attname = $2::pg_catalog.text
"""


def check_free(cursor: Cursor, schema: str, number: int, label: str) -> None:
    """Checks that no run works on a target of the migration.

    Raises:
        LeaseError: one does.
    """
    query = sql.SQL(_HELD).format(sql.Identifier(schema, "target"))
    if row := cursor.execute(query, (number,)).fetchone():
        raise LeaseError(f"{label} is being worked on by {row[0]}: wait for it, or stop it")


_HELD = """
SELECT holder_name FROM {} WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND holder IS NOT NULL
  AND held_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
"""
