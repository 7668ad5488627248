"""Runs the DDL of the ledger, explains what the server has against it, and looks whether what it made exists."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction


def execute(connection: Connection, label: str, ddl: list[sql.Composed], *, verb: str = "tracked") -> None:
    """Runs the statements in one transaction.

    Raises:
        ConfigError: as ``understood``.
    """
    with understood(label, verb), transaction(connection) as cursor:
        for statement in ddl:
            cursor.execute(statement, ())


@contextmanager
def understood(label: str, verb: str) -> Iterator[None]:
    """Explains why the server refused DDL on a table: what it could not become.

    Raises:
        ConfigError: this role may not; another object has a name of the ledger's, or depends on it.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"{label} cannot be {verb} by this role: {server_message(error)}: run it as the table's "
            "owner with CREATE on the database, or give the statements of --dry-run to a DBA"
        ) from error
    except psycopg.errors.DependentObjectsStillExist as error:
        objects = "; ".join((error.diag.message_detail or "").splitlines())
        raise ConfigError(
            f"{label} cannot be {verb}: {error.diag.message_primary}: {objects}: change or drop those objects first"
        ) from error
    except (psycopg.errors.DuplicateSchema, psycopg.errors.DuplicateTable) as error:
        raise ConfigError(f"{server_message(error)}: choose another --state-schema") from error


def has_tables(cursor: Cursor, relation: Relation) -> bool:
    """Whether the target's own tables exist, none of which somebody dropped."""
    tracking = relation.ledger
    names = [table.as_string() for table in (tracking.vectors, tracking.changes, tracking.failures)]
    query = "SELECT t FROM pg_catalog.unnest($1::pg_catalog.text[]) AS t WHERE pg_catalog.to_regclass(t) IS NULL"
    return not cursor.execute(query, (names,)).fetchall()
