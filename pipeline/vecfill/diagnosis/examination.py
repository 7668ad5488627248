"""``vecfill doctor``: makes every check of a target, and sorts what they find."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

import psycopg

from vecfill.backfill.checks import check_sql
from vecfill.config.doctor import DoctorOptions
from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.diagnosis import (
    access_checks,
    application_checks,
    index_checks,
    ledger_checks,
    queries,
    replication_checks,
    server_checks,
    session_checks,
    storage_checks,
    table_checks,
    update_checks,
)
from vecfill.diagnosis.finding import SEVERITIES, Diagnosis, Finding, problem
from vecfill.diagnosis.look import LOCK_MS, Check, Examined, Look, made
from vecfill.diagnosis.meanings import MEANINGS
from vecfill.encode.model.model_location import locate_model
from vecfill.errors import ConfigError
from vecfill.ledger.completed_target import find_completed
from vecfill.ledger.models import writers
from vecfill.ledger.registry import Tracked
from vecfill.postgres.catalogue import find_table
from vecfill.postgres.database import Connection, Cursor, Database
from vecfill.postgres.introspect import inspect
from vecfill.postgres.queue_introspect import with_queue_table
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import selection_of
from vecfill.postgres.server import server_of
from vecfill.postgres.session import open_session
from vecfill.postgres.transaction import transaction

CHECKS: Mapping[str, Check] = {
    **server_checks.CHECKS,
    **session_checks.CHECKS,
    **replication_checks.CHECKS,
}
"""Checks that need no more than the table's name, each under the name of its finding."""

COLUMN_CHECKS: Mapping[str, Check] = {
    **access_checks.CHECKS,
    **table_checks.CHECKS,
    **application_checks.CHECKS,
    **index_checks.CHECKS,
    **update_checks.CHECKS,
    **storage_checks.CHECKS,
    **server_checks.COLUMN_CHECKS,
    **ledger_checks.CHECKS,
}
"""Checks that need the embedding column."""


def doctor(
    target: Target,
    model: Model | None = None,
    *,
    database: str | Database | None = None,
    options: DoctorOptions = DoctorOptions(),  # noqa: B008 -- frozen
) -> Diagnosis:
    """Examines a target and says what is wrong with it, why that matters, and what mends it. Writes nothing.

    The measurement of an update is the one exception: it is rolled back, and ``options.measure`` turns it off. No
    statement waits for a lock for longer than half a second. A role with few rights gets fewer findings: what it may
    not look at is named as ``unknown``.

    Args:
        target: the table; its text is needed only to tell rows without one.
        model: the model that is to fill it; None takes that of the ledger, if any.
        database: connection string; None takes libpq's environment.
        options: what to examine.

    Raises:
        ConfigError: no database; no such table or model; an option of the target that does not fit the table.
        DatabaseError: the server is gone.
    """
    if model and not model.is_api:
        locate_model(model)  # is there one of this name
    with open_session(database) as session:
        return session.run(lambda connection: _diagnosis(connection, session.database, target, model, options))


def _diagnosis(
    connection: Connection, database: Database, target: Target, model: Model | None, options: DoctorOptions
) -> Diagnosis:
    look = _look(connection, database, target, model, options)
    found = list(_findings(look))
    by_weight = {severity: position for position, severity in enumerate(SEVERITIES)}
    by_name = {name: position for position, name in enumerate(MEANINGS)}
    found.sort(key=lambda one: (by_weight[one.severity], by_name[one.name]))
    return Diagnosis(table=look.label, column=target.column, findings=tuple(found))


def _look(
    connection: Connection, database: Database, target: Target, model: Model | None, options: DoctorOptions
) -> Look:
    with transaction(connection, {"lock_timeout": str(LOCK_MS)}, read_only=True) as cursor:
        server = server_of(cursor)  # which reads this role's own time limits
        oid, schema, table = _identity(cursor, target.table, server.block_bytes)
    return Look(
        connection=connection,
        database=database,
        target=target,
        model=model,
        server=server,
        oid=oid,
        schema=schema,
        table=table,
        measure=options.measure,
    )


def _identity(cursor: Cursor, table: str, block_bytes: int) -> tuple[int, str, str]:
    """Returns oid, schema and name of a table, which another session may have locked.

    Raises:
        ConfigError: there is none.
    """
    try:
        with cursor.connection.transaction():
            row = cursor.execute(queries.IDENTITY, (table,)).fetchone()
    except psycopg.ProgrammingError:
        row = None
    if row is None:
        find_table(cursor, table, block_bytes)  # says why
        raise ConfigError(f"--table {table} was dropped a moment ago")
    return row[0], row[1], row[2]


def _findings(look: Look) -> Iterator[Finding]:
    try:
        _check_free(look)
        whole, own = _examined(look)
    except psycopg.errors.LockNotAvailable:
        whole, own = look, [table_checks.locked_target()]
    yield from own
    checks = {**CHECKS, **COLUMN_CHECKS} if isinstance(whole, Examined) else CHECKS
    for name, check in checks.items():
        yield from made(name, check, whole)


def _check_free(look: Look) -> None:
    """Checks that the table can be opened, within the time limit of a check.

    Raises:
        ConfigError: it is no table.
        psycopg.errors.LockNotAvailable: another session has locked it.
    """
    with transaction(look.connection, look.limits, read_only=True) as cursor:
        find_table(cursor, look.target.table, look.server.block_bytes)


def _examined(look: Look) -> tuple[Look, list[Finding]]:
    """Reads the table from the catalogue and the ledger; what does not fit there is a finding.

    Raises:
        ConfigError: an option of the target does not fit the table, which is sound.
    """
    try:
        relation = inspect(look.connection, look.target, text_needed=False, key_needed=False)
    except ConfigError as error:
        bare = Target(table=look.target.table, column=look.target.column)
        try:
            inspect(look.connection, bare, text_needed=False, key_needed=False)
        except ConfigError as fault:
            return look, [table_checks.broken_target(look, str(fault))]
        raise error from None
    _check_users_sql(look, relation)
    if relation.table.key:
        with_queue_table(look.connection, relation, look.target)
    relation, target, tracked = _quick(look, relation), look.target, None
    found: list[Finding] = []
    try:
        target, tracked = find_completed(look.connection, target, relation)
    except ConfigError as error:
        found.append(problem("ledger", str(error)))
    if tracked:
        tracked = replace(tracked, relation=_quick(look, tracked.relation))
        relation = tracked.relation if target != look.target else replace(relation, tracking=None)
    given = {field.name: getattr(look, field.name) for field in fields(Look)}
    given |= {"target": target, "model": look.model or _model_of(look, relation, tracked)}
    return Examined(**given, relation=replace(relation, tracking=None), tracked=tracked), found


def _check_users_sql(look: Look, relation: Relation) -> None:
    """Plans the user's SQL, if there is any; what this role may not do is a finding of ``access_checks``.

    Raises:
        ConfigError: it does not work.
    """
    given = relation.user_sql
    if relation.access.policies or not (given.where or given.assignments or given.text_sql):
        return
    try:
        check_sql(look.connection, _quick(look, relation), selection_of(look.target))
    except psycopg.errors.LockNotAvailable:
        return
    except ConfigError as error:
        if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            raise


def _quick(look: Look, relation: Relation) -> Relation:
    """Has the statements of other rooms, too, keep the time limits of a check."""
    return replace(relation, access=replace(relation.access, settings={**relation.access.settings, **look.limits}))


def _model_of(look: Look, relation: Relation, tracked: Tracked | None) -> Model | None:
    """Returns the model that the ledger names last, if its name is all there is to it."""
    if tracked is None:
        return None
    try:
        made_by = writers(look.connection, relation, look.target)
        return Model(name=made_by[-1][0], truncate_dim=made_by[-1][1].get("truncate_dim")) if made_by else None
    except (ConfigError, psycopg.errors.InsufficientPrivilege):
        return None
