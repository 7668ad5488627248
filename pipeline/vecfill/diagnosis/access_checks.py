"""What this role may do with the target, and which rows it sees."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from vecfill.backfill.checks import check_sql
from vecfill.diagnosis.finding import Finding, advice, ok, problem
from vecfill.diagnosis.look import Examined, statement
from vecfill.errors import ConfigError
from vecfill.postgres.row_security import visible_rows
from vecfill.postgres.selection import selection_of


def privileges(look: Examined) -> Iterator[Finding]:
    """Plans the statements of a run, which needs the same rights."""
    try:
        check_sql(look.connection, look.relation, selection_of(look.target))
    except ConfigError as error:
        lacks = isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege)
        yield problem("privileges", str(error), *(_grants(look) if lacks else ()))
        return
    yield ok("privileges", f"role {look.server.role} may read and update what a run needs")


def _grants(look: Examined) -> Iterator[str]:
    written = [look.column, *(sql.Identifier(name).as_string() for name, _ in look.relation.user_sql.assignments)]
    yield statement("GRANT USAGE ON SCHEMA {} TO {}", (look.schema,), look.role)
    yield statement("GRANT SELECT, UPDATE ({}) ON {} TO {}", ", ".join(written), look.name, look.role)


def temporary_tables(look: Examined) -> Iterator[Finding]:
    """Whether batches may go by COPY into a temporary table."""
    if not look.relation.access.arrays:
        yield ok("temporary-tables", f"role {look.server.role} may create them")
        return
    database = sql.Identifier(look.connection.info.dbname).as_string()
    yield advice(
        "temporary-tables",
        f"role {look.server.role} may not create them: a run works, by arrays",
        f"GRANT TEMPORARY ON DATABASE {database} TO {look.role};",
    )


def row_security(look: Examined) -> Iterator[Finding]:
    """Whether policies hide rows from this role."""
    role = look.server.role
    if not look.relation.access.policies:
        yield ok("row-level-security", f"no policy applies to role {role}")
        return
    every = f"ALTER ROLE {look.role} BYPASSRLS;"
    try:
        held, sees = visible_rows(look.connection, look.relation)
    except ConfigError as error:
        yield problem("row-level-security", str(error), every)
        return
    if held and not sees:
        yield problem("row-level-security", f"policies hide every row from role {role}; the table holds {held}", every)
    else:
        what = f"policies apply to role {role}: it counts and fills only rows that it sees; the table holds {held}"
        yield advice("row-level-security", what, every)


CHECKS = {"privileges": privileges, "temporary-tables": temporary_tables, "row-level-security": row_security}
