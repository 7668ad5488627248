"""Row-level security: says that it applies to this role, and refuses a table of which this role sees no row."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.target_sql import target
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

_SIZES = """
SELECT c.reltuples::pg_catalog.float8, c.relpages, pg_catalog.pg_relation_size(c.oid)
FROM pg_catalog.pg_class AS c WHERE c.oid = ANY ($1::pg_catalog.oid[]) AND c.relkind <> 'p'
"""

_SET_WHAT_THEY_READ = "set what the policies read, such as PGOPTIONS='-c app.tenant=7'"

_OF_A_POLICY = ("22", "42704", "P0")
"""SQLSTATEs, or their classes, of a policy that fails on a setting: none of that name, or an empty one that is cast."""


def check_policies(connection: Connection, relation: Relation) -> None:
    """Plans a statement that has nothing but the policies, so that their errors are not taken for the user's SQL's.

    Raises:
        ConfigError: a policy fails.
    """
    if not relation.access.policies:
        return
    nothing = sql.SQL("EXPLAIN SELECT FROM {}").format(target(relation))
    with (
        suppress(psycopg.errors.InsufficientPrivilege),  # which the caller explains
        _policies_explained(relation),
        transaction(connection, read_only=True) as cursor,
    ):
        cursor.execute(nothing, ())


def check_visible(connection: Connection, relation: Relation) -> None:
    """Warns if row-level policies apply to this role, since it cannot count the rows that they hide.

    Raises:
        ConfigError: this role sees no row of a table that holds some, or a policy fails.
    """
    if not relation.access.policies:
        return
    held, sees = visible_rows(connection, relation)
    table, role = relation.table.label, relation.access.server.role
    if held and not sees:
        raise ConfigError(
            f"row-level security hides every row of {table} from role {role}, and the table holds {held}: add a policy "
            f"for this role, connect as a role with BYPASSRLS, or {_SET_WHAT_THEY_READ}"
        )
    log.warning(
        "row-level security on %s applies to role %s: only rows that it may see are counted (the table holds %s)",
        *(table, role, held or "no rows"),
        extra={"target": table, "role": role},
    )


def visible_rows(connection: Connection, relation: Relation) -> tuple[str, bool]:
    """Returns what the table holds by the catalogue, empty for no rows; and whether this role sees any row of it.

    Raises:
        ConfigError: a policy fails.
    """
    with transaction(connection, relation.access.reading, read_only=True) as cursor:
        with _policies_explained(relation):
            sees = cursor.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(target(relation)), ()).fetchone() is not None
        sizes = cursor.execute(_SIZES, (list(relation.table.tree),)).fetchall()
    return _rows_held(sizes), sees


@contextmanager
def _policies_explained(relation: Relation) -> Iterator[None]:
    """Explains an error of a statement that evaluates nothing but the policies."""
    try:
        yield
    except psycopg.Error as error:
        if not (error.sqlstate or "").startswith(_OF_A_POLICY):
            raise
        raise ConfigError(
            f"row-level security on {relation.table.label} fails for role {relation.access.server.role}: "
            f"{server_message(error)}: {_SET_WHAT_THEY_READ}"
        ) from error


def _rows_held(sizes: list[tuple[float, int, int]]) -> str:
    """Describes the rows of the table by the catalogue; empty if it holds none.

    Until the first VACUUM or ANALYZE, the catalogue has no row count (-1 rows, or 0 pages): then the size tells.
    """
    unknown = sum(size for rows, pages, size in sizes if rows < 0 or not pages)
    known = sum(rows for rows, pages, _ in sizes if rows > 0 and pages)
    parts = [f"about {known:,.0f} rows"] if known else []
    return " and ".join([*parts, *([f"{unknown / 1024:,.0f} kB of rows not analyzed yet"] if unknown else [])])
