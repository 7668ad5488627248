"""Tables to measure on: in a schema of their own in the user's database, of which nothing remains."""

from __future__ import annotations

import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.tracking import Tracking
from vecfill.target_tracking import track
from vecfill.termination import SIGNALLED

PREFIX, LEDGER = "vecfill_bench_", "_ledger"

_LOCK_TIMEOUT = "60s"
"""A contender's process that was ended may hold its locks for a moment longer."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A scratch table, full of texts and empty of vectors after each ``refill``.

    ``ledger`` are the tables of a tracked one, empty then too.
    """

    database: Database
    name: sql.Composable
    relation: Relation
    source: sql.Composable
    vector_type: sql.Composable
    rows: int
    ledger: tuple[sql.Composable, ...] = ()

    @property
    def label(self) -> str:
        """The table as the command line takes it."""
        return self.relation.table.label

    def refill(self) -> None:
        """Makes the table anew: no dead rows, no vectors, statistics up to date."""
        with closing(self.database.connect()) as connection:
            _refill(connection, self.name, self.source)
            for table in self.ledger:
                connection.execute(sql.SQL("TRUNCATE {}").format(table))

    def ledger_bytes_per_row(self) -> float:
        """Fills the ledger with an origin for each row; returns the bytes that one takes there, with its index."""
        origins = self.relation.ledger.vectors
        fill = sql.SQL("INSERT INTO {} SELECT id, 1, pg_catalog.decode(pg_catalog.md5(text), 'hex') FROM {}")
        size = sql.SQL("SELECT pg_catalog.pg_total_relation_size({}::pg_catalog.regclass)")
        self.refill()
        with closing(self.database.connect()) as connection:
            connection.execute(fill.format(origins, self.name))
        return float(self._value(size.format(sql.Literal(origins.as_string())))) / self.rows

    def vectors(self) -> int:
        """Rows that have a vector."""
        return int(self._value(sql.SQL("SELECT pg_catalog.count(embedding) FROM {}").format(self.name)))

    def wal_position(self) -> int:
        """Bytes of WAL that the whole server has ever written."""
        lsn = "pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')"
        return int(self._value(sql.SQL("SELECT {}").format(sql.SQL(lsn))))

    def bytes(self) -> int:
        """Bytes of the table with its indexes and TOAST."""
        size = sql.SQL("SELECT pg_catalog.pg_total_relation_size({}::pg_catalog.regclass)")
        return int(self._value(size.format(sql.Literal(self.name.as_string()))))

    def _value(self, query: sql.Composed) -> Any:
        with closing(self.database.connect()) as connection:
            row = connection.execute(query).fetchone()
        return row[0] if row else 0


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """The schema, for as long as the benchmark runs."""

    database: Database
    schema: str
    vector: sql.Composable

    def table(self, name: str, texts: Sequence[str], dim: int) -> Table:
        """Makes a table ``(id bigint primary key, text text not null, embedding vector(dim))`` and fills in the texts.

        Raises:
            ConfigError: the server does not take it, such as for a dimension that pgvector does not have.
        """
        full, source = (sql.Identifier(self.schema, part) for part in (name, f"{name}_source"))
        vector = sql.SQL("{}({})").format(self.vector, sql.Literal(dim))
        try:
            with closing(self.database.connect()) as connection:
                _create(connection, full, vector)
                _fill(connection, source, texts)
                _refill(connection, full, source)
                relation = inspect(connection, Target(table=f"{self.schema}.{name}", text="text"))
        except psycopg.Error as error:
            raise ConfigError(f"no scratch table of {dim} dimensions: {server_message(error)}") from error
        return Table(
            database=self.database,
            name=full,
            relation=relation,
            source=source,
            vector_type=vector,
            rows=len(texts),
        )

    def tracked(self, table: Table) -> Table:
        """Tracks a table, with a ledger in a schema beside this one."""
        target = Target(table=table.label, text="text", state_schema=f"{self.schema}{LEDGER}")
        track(target, database=self.database)
        tracking = Tracking.of(target.state_schema, 1, table.relation.table.key)
        tracking = replace(tracking, model=1)
        return replace(
            table,
            relation=replace(table.relation, tracking=tracking),
            ledger=(tracking.vectors, tracking.changes, tracking.failures),
        )


@contextmanager
def scratch(database: Database) -> Iterator[Scratch]:
    """Makes a schema with a name that nobody has, and drops it at the end: also on an error, SIGINT and SIGTERM.

    Raises:
        ConfigError: the role may not make a schema, or the database has no pgvector.
    """
    schema = PREFIX + secrets.token_hex(4)
    name = sql.Identifier(schema)
    try:
        with closing(database.connect()) as connection:
            vector = _vector_type(connection)
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"{database.label}: {server_message(error)}: the benchmark makes a schema of its own and drops it: "
            "GRANT CREATE ON DATABASE, or give --database embedded"
        ) from error
    try:
        with _sigterm_unwinds():
            yield Scratch(database=database, schema=schema, vector=vector)
    finally:
        with closing(database.connect()) as connection:
            connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
            for one in (name, sql.Identifier(f"{schema}{LEDGER}")):
                connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(one))


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Lets SIGTERM end the process by an exception, as SIGINT does, and with the shell's exit code for it.

    A handler of the program's own stays.
    """
    if threading.current_thread() is not threading.main_thread() or callable(signal.getsignal(signal.SIGTERM)):
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(SIGNALLED + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _vector_type(connection: Connection) -> sql.Composable:
    row = connection.execute(
        "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'vector'"
    ).fetchone()
    if row is None:
        raise ConfigError(
            f"{connection.info.dbname} has no pgvector: CREATE EXTENSION vector, or give --database embedded"
        )
    return sql.Identifier(row[0], "vector")


def _create(connection: Connection, full: sql.Composable, vector: sql.Composable) -> None:
    columns = sql.SQL("id bigint PRIMARY KEY, text text NOT NULL, embedding {}").format(vector)
    connection.execute(sql.SQL("CREATE TABLE {} ({}) WITH (autovacuum_enabled = false)").format(full, columns))


def _fill(connection: Connection, source: sql.Composable, texts: Sequence[str]) -> None:
    connection.execute(sql.SQL("CREATE UNLOGGED TABLE {} (id bigint, text text)").format(source))
    statement = sql.SQL("COPY {} (id, text) FROM STDIN").format(source)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for number, text in enumerate(texts, start=1):
            copy.write_row((number, text))


def _refill(connection: Connection, full: sql.Composable, source: sql.Composable) -> None:
    with connection.transaction():
        connection.execute(sql.SQL("TRUNCATE {}").format(full))
        connection.execute(
            sql.SQL("INSERT INTO {} (id, text) SELECT id, text FROM {} ORDER BY id").format(full, source)
        )
    connection.execute(sql.SQL("ANALYZE {}").format(full))
