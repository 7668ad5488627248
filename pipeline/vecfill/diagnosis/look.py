"""What a check looks at, and how it asks the server: in short transactions that never wait long and never write."""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from psycopg import sql
from psycopg.abc import QueryNoTemplate

from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.diagnosis.commands import command, run_command
from vecfill.diagnosis.finding import Finding, unknown
from vecfill.errors import ConfigError, DatabaseError
from vecfill.ledger.registry import Tracked
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import is_reported, server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.server import Server, time_limits
from vecfill.postgres.transaction import transaction

LOCK_MS, STATEMENT_MS = 500, 5_000
"""Time limits of every statement of a check: a lock request that waits makes other sessions queue behind it."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A target as the checks see it.

    Attributes:
        connection: to its database.
        database: where that is.
        target: the user's settings; of a tracked target with the text and key of ``track``.
        model: the user's model, or that of the ledger if there is one; None if neither is known.
        server: the server's properties for this role.
        oid, schema, table: of the table.
        measure: whether to measure what an update costs.
    """

    connection: Connection
    database: Database
    target: Target
    model: Model | None
    server: Server
    oid: int
    schema: str
    table: str
    measure: bool

    @property
    def limits(self) -> dict[str, str]:
        """The settings of a transaction; never looser than those of the role."""
        return time_limits(self.server, LOCK_MS, STATEMENT_MS)

    @property
    def label(self) -> str:
        """``schema.table`` for messages."""
        return f"{self.schema}.{self.table}"

    @property
    def name(self) -> str:
        """The table's name in SQL."""
        return sql.Identifier(self.schema, self.table).as_string()

    @property
    def role(self) -> str:
        """This role's name in SQL."""
        return sql.Identifier(self.server.role).as_string()

    def ask(self, query: QueryNoTemplate, *parameters: Any) -> list[Any]:
        """Returns the rows of a query as named tuples.

        Raises:
            psycopg.Error: of the server, such as a missing right or a time limit.
        """
        with transaction(self.connection, self.limits, read_only=True, first=query, parameters=parameters) as cursor:
            row = namedtuple("row", [column.name for column in cursor.description or ()])  # type: ignore[misc]
            return [row(*values) for values in cursor.fetchall()]

    def command(self, verb: str, *more: str) -> str:
        """Returns the command line of a verb on this target."""
        return command(verb, self.target, *more)

    def run_command(self, *more: str) -> str:
        """Returns the command line of a run."""
        return run_command(self.target, self.model, *more)


@dataclass(frozen=True, kw_only=True)
class Examined(Look):
    """A target whose column was found.

    Attributes:
        relation: the target as the catalogue describes it.
        tracked: what the ledger says of it; None if it is not tracked.
    """

    relation: Relation
    tracked: Tracked | None

    @property
    def column(self) -> str:
        """The embedding column's name in SQL."""
        return sql.Identifier(self.relation.table.vector.name).as_string()

    @property
    def tree(self) -> list[int]:
        """The oids of the table and its partitions."""
        return list(self.relation.table.tree)


class Check(Protocol):
    """Looks at one thing."""

    def __call__(self, look: Any, /) -> Iterable[Finding]:
        """Returns what there is to say."""


def made(name: str, check: Check, look: Look) -> Iterator[Finding]:
    """Makes a check; what the server refuses or cannot do in time is a finding too.

    Raises:
        psycopg.Error: the connection is lost.
    """
    try:
        yield from list(check(look))
    except psycopg.errors.InsufficientPrivilege as error:
        yield unknown(name, f"role {look.server.role} may not look: {server_message(error)}")
    except psycopg.errors.LockNotAvailable:
        yield unknown(name, LOCKED)
    except psycopg.errors.QueryCanceled as error:
        yield unknown(
            name, f"took longer than a check may ({look.limits['statement_timeout']} ms): {server_message(error)}"
        )
    except (ConfigError, DatabaseError) as error:  # of another room, which explains it
        yield unknown(name, str(error))
    except psycopg.Error as error:
        if not is_reported(error):
            raise
        yield unknown(name, server_message(error))


LOCKED = "another session has locked the table: see table-lock"


def grants_in(message: str) -> list[str]:
    """Returns the GRANTs that a message asks for, as statements."""
    return [f"{one.strip()};" for one in re.findall(r"GRANT [A-Z][^;]* ON [^;]* TO [^;]*", message)]


def statement(text: str, *names: Sequence[str] | str) -> str:
    """Returns a statement with names in place of its ``{}``: each quoted, or as it is if it is SQL already."""
    parts = (sql.Identifier(*name).as_string() if not isinstance(name, str) else name for name in names)
    return f"{text.format(*parts)};"
