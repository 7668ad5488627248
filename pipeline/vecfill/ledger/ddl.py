"""Runs the DDL of the ledger, and explains what the server has against it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.session import transaction


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
