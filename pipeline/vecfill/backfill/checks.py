"""Checks before the first row is read: the server, the rights, the user's SQL, the dimension."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from vecfill.config.model import Model
from vecfill.encode.model.model_files import dimension_of
from vecfill.errors import ConfigError, ReadOnlyError
from vecfill.postgres import checks_sql, timeouts, write_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import is_transient, server_message
from vecfill.postgres.known_problems import known_problems
from vecfill.postgres.relation import Relation, with_dimension
from vecfill.postgres.replication import role_without_replication_stats
from vecfill.postgres.row_security import check_policies
from vecfill.postgres.selection import MISSING, Selection
from vecfill.postgres.transaction import transaction
from vecfill.read.partial_index import suggested_index

log = logging.getLogger(__name__)


def check_writable(relation: Relation) -> None:
    """Checks that this server and role accept writes.

    Raises:
        ReadOnlyError: a standby, or a read-only session.
    """
    server = relation.access.server
    if server.standby or server.read_only:
        what = "a standby" if server.standby else f"read-only for role {server.role} (default_transaction_read_only)"
        raise ReadOnlyError(
            f"the server is {what}, and a run writes vectors: connect to the primary as a role that may write"
        )


def check_sql(connection: Connection, relation: Relation, selection: Selection, *, writing: bool = True) -> None:
    """Plans the user's SQL, alone and in brackets, and our own, with the extended protocol; the server runs nothing.

    Args:
        connection: to the target's database.
        relation: the target.
        selection: the rows to take.
        writing: also check the right to UPDATE, and the assignments of ``--set``.

    Raises:
        ConfigError: the SQL does not parse both ways, it takes parameters, or this role lacks a right.
    """
    check_policies(connection, relation)
    with transaction(connection, relation.access.reading, read_only=True) as cursor:
        for option, query in checks_sql.checks(selection, relation, writing=writing):
            complaint, remedy = f"{option} does not work as SQL on {relation.table.label}", "correct it"
            if option == "--column":  # not the user's SQL
                complaint, remedy = f"{relation.table.label} refuses updates", "change that"
            with understood(complaint, remedy):
                try:
                    cursor.execute(query, ())
                except psycopg.errors.InsufficientPrivilege as error:
                    update = f" and UPDATE on {relation.table.vector.name} and what --set assigns" if writing else ""
                    policies = ", and row_security must be on" if relation.access.policies else ""
                    raise ConfigError(
                        f"{relation.table.label}: {server_message(error)}: this role needs SELECT on the columns it "
                        f"reads, including ctid{update}: GRANT it{policies}"
                    ) from error


def check_write(connection: Connection, relation: Relation, selection: Selection) -> None:
    """PREPAREs the write statement against an empty stand-in: the server validates it and runs nothing.

    Raises:
        ConfigError: --where or --set does not work inside the statement; this role may not create temporary tables, and
            a key column has a type that no array can hold.
    """
    if relation.access.arrays:
        log.info(
            "role %s may not create temporary tables: sending batches as arrays",
            connection.info.user,
            extra={"target": relation.table.label},
        )
    complaint, remedy = f"{relation.table.label} cannot be written with this --where and --set", "correct them"
    if relation.user_sql.where is None and not relation.user_sql.assignments:
        complaint, remedy = f"{relation.table.label} cannot be written", "change that"
    with understood(complaint, remedy), transaction(connection, relation.access.settings) as cursor:
        cursor.execute(write_sql.prepare_statement(selection, relation), ())
        cursor.execute(write_sql.DEALLOCATE, ())


def warn_known_problems(connection: Connection, relation: Relation, *, standbys: bool) -> None:
    """Warns about problems that do not prevent a run, one line each.

    Args:
        connection: to the target's database.
        relation: the target.
        standbys: whether the run watches the lag of the standbys.
    """
    if standbys and (role := role_without_replication_stats(connection)):
        log.warning(
            "cannot watch --max-replication-lag: role %s does not see pg_stat_replication's figures: "
            "GRANT pg_read_all_stats TO it",
            role,
        )
    for problem in known_problems(connection, relation):
        log.warning("%s", problem, extra={"target": relation.table.label})


def warn_no_row_can_miss(relation: Relation, selection: Selection) -> None:
    """Warns that in a NOT NULL column every row counts as filled."""
    vector = relation.table.vector
    if vector.not_null and selection == MISSING:
        log.warning(
            "%s.%s is NOT NULL, so every row counts as filled: pass --zero-is-missing if zeros are placeholders",
            *(relation.table.label, vector.name),
            extra={"target": relation.table.label},
        )


def suggest_index(relation: Relation, selection: Selection, without_vector: int) -> None:
    """Logs the index that would list the few rows without a vector; the owner decides whether to create it."""
    if selection == MISSING and (ddl := suggested_index(relation, without_vector)):
        log.info(
            "read all of %s to find the missing rows; this index would list them: %s",
            *(relation.table.label, ddl),
            extra={"target": relation.table.label, "ddl": ddl},
        )


@contextmanager
def understood(complaint: str, remedy: str) -> Iterator[None]:
    """Explains why the server refused a statement. A table that another session locks is no reason.

    A lost connection or a timeout is none either; a protocol violation is: SQL that takes a parameter.
    """
    try:
        yield
    except psycopg.Error as error:
        locked = isinstance(error, psycopg.errors.LockNotAvailable)
        lost = is_transient(error) and not isinstance(error, psycopg.errors.ProtocolViolation)
        if locked or lost or error.sqlstate in timeouts.SETTINGS:
            raise
        raise ConfigError(f"{complaint}: {server_message(error)}: {remedy}") from error


def check_dimension(relation: Relation, model: Model, given: int) -> None:
    """Compares the column's dimension, if it has one, with the model's.

    Raises:
        ConfigError: they differ.
    """
    wanted = relation.table.vector.dim
    if wanted and given != wanted:
        vector, label = relation.table.vector, relation.table.label
        if vector.declared:
            raise ConfigError(
                f"embedding column {label}.{vector.name} is {vector.kind}({wanted}) but model {model.name} gives "
                f"{given}: set --truncate-dim, choose another model or another column"
            )
        raise ConfigError(
            f"embedding column {label}.{vector.name} has {wanted} dimensions by its vectors or --dim but model "
            f"{model.name} gives {given}: set --truncate-dim, choose another model or another column, or select the "
            "rows of one model with --where"
        )


def settle_dimension(relation: Relation, model: Model) -> Relation:
    """Compares the column's dimension with the model's, without loading the model, and returns the target with it.

    Raises:
        ConfigError: they differ.
    """
    given, wanted = dimension_of(model), relation.table.vector.dim
    if given:
        check_dimension(relation, model, given)
    dim = wanted or given
    if dim is None:
        raise ConfigError(
            f"neither {relation.table.label}.{relation.table.vector.name} nor model {model.name} declares its "
            "dimension: pass --dim"
        )
    return with_dimension(relation, dim)
