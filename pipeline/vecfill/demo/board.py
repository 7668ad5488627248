"""The board: a table like the one whose upserts failed, and the two statements that show why.

The table is in the embedded server's own database. Each demo recreates it; a comment on the table marks it as ours.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from vecfill.config.target import Target
from vecfill.demo.listings import Listing
from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message

TARGET = Target(table="public.jobs", text="{title} at {company}", set=("updated_at = now()",))

CREATE = """\
CREATE TABLE public.jobs (
    id          uuid PRIMARY KEY,
    title       text NOT NULL,
    company     text NOT NULL,
    department  text,
    location    text,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    embedding   vector(384)
)"""

UPSERT = """\
INSERT INTO jobs (id, embedding, updated_at) VALUES ($1, $2, now())
ON CONFLICT (id) DO UPDATE SET embedding = EXCLUDED.embedding"""
"""The original cron job's statement: it names only the key and the vector of an existing row."""

UPDATE = "UPDATE jobs SET embedding = $2, updated_at = now() WHERE id = $1"

_OURS = "made by `vecfill demo`, which replaces it"
_LOCK = 0x7665_6366_696C_6C  # the bytes of "vecfill"
_LOCK_TIMEOUT = "5s"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A statement and the server's answer, with the SQLSTATE if that was an error."""

    statement: str
    answer: str
    sqlstate: str | None = None


def claim(connection: Connection) -> None:
    """Keeps a second demo from replacing the table while the connection is open.

    Raises:
        ConfigError: another demo is running.
    """
    row = connection.execute("SELECT pg_catalog.pg_try_advisory_lock($1)", (_LOCK,)).fetchone()
    if row != (True,):
        raise ConfigError(f"another demo is filling {TARGET.table} on this server: wait until it ends, or stop it")


def build(connection: Connection, listings: Sequence[Listing]) -> None:
    """Recreates the table in one transaction: it has all listings afterwards, or is unchanged.

    Raises:
        ConfigError: the table is the user's own, or in use, or an object of the user's depends on it.
    """
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            _check_ours(connection)
            connection.execute("DROP TABLE IF EXISTS public.jobs")
            connection.execute(CREATE)
            connection.execute(f"COMMENT ON TABLE public.jobs IS '{_OURS}'")
            _copy(connection, listings)
    except psycopg.Error as error:
        raise ConfigError(
            f"the demo cannot recreate its table {TARGET.table}: {server_message(error)}: end the sessions that use "
            "the table, drop the objects that depend on it, or set VECFILL_HOME to another folder"
        ) from error


def _check_ours(connection: Connection) -> None:
    query = (
        "SELECT pg_catalog.obj_description(found, 'pg_class') FROM pg_catalog.to_regclass('public.jobs') AS found "
        "WHERE found IS NOT NULL"
    )
    if connection.execute(query).fetchone() not in (None, (_OURS,)):
        raise ConfigError(
            f"the table {TARGET.table} on this server was not made by the demo: rename it, "
            "or set VECFILL_HOME to another folder"
        )


def _copy(connection: Connection, listings: Sequence[Listing]) -> None:
    statement = "COPY public.jobs (id, title, company, department, location) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for one in listings:
            copy.write_row((one.id, one.title, one.company, one.department, one.location))


def versions(connection: Connection) -> tuple[str, str]:
    """Returns the versions of PostgreSQL and of pgvector, such as 18.1 and 0.8.1."""
    query = (
        "SELECT pg_catalog.current_setting('server_version'), "
        "(SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'vector')"
    )
    server, vector = connection.execute(query).fetchone() or ("", "")
    return str(server).partition(" ")[0], str(vector)


def attempt(connection: Connection, statement: str) -> Attempt:
    """Runs a statement on an existing row, with another row's vector, and rolls it back.

    Args:
        connection: from ``Database.connect``.
        statement: ``UPSERT`` or ``UPDATE``.
    """
    key, vector = _row_and_vector(connection)
    readable = statement.replace("$1", f"'{key}'").replace("$2", "'[…]'")
    try:
        with connection.transaction(force_rollback=True):
            answer = connection.execute(statement.encode(), (key, vector)).statusmessage
    except psycopg.Error as error:
        return Attempt(statement=readable, answer=f"ERROR: {error.diag.message_primary}", sqlstate=error.sqlstate)
    return Attempt(statement=readable, answer=answer or "")


def _row_and_vector(connection: Connection) -> tuple[uuid.UUID, str | None]:
    """Returns the key of a row, preferably without a vector, and a vector as text."""
    query = (
        "SELECT id, (SELECT embedding::text FROM jobs WHERE embedding IS NOT NULL LIMIT 1) "
        "FROM jobs ORDER BY embedding IS NOT NULL, id LIMIT 1"
    )
    key, vector = connection.execute(query).fetchone() or (uuid.UUID(int=0), None)
    return key, vector
