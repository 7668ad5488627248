"""The statements by which a run finds out whether to hold back: the user's ``--pause-query``, and a probe. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.target_sql import Query

SETTINGS = {"statement_timeout": "5s"}
"""Of a transaction with one of these statements: a server that needs longer is one to spare."""


def is_paused(query: sql.Composable) -> Query:
    """Whether the user's query is true; NULL and no row count as false. Not a boolean, or several values: an error."""
    return sql.SQL("SELECT COALESCE((\n{}\n), false)").format(query)


def pause_checks(query: sql.Composable) -> Iterator[Query]:
    """Yields statements that the server refuses unless ``query`` is one SELECT of one boolean; the last one runs it.

    A cursor takes a SELECT that changes nothing, alone; within brackets it cannot end early.
    """
    yield sql.SQL("DECLARE vecfill_pause CURSOR FOR {}").format(query)
    yield is_paused(query)


def probe(leaf: Leaf, page: int, *, commit: bool) -> Query:
    """Does little of each kind that an application waits for: reads a heap page, and with ``commit`` flushes the WAL.

    The message in the WAL is empty, and a transaction that writes none would not wait for the disk or a synchronous
    standby. A page at random is often not in the server's memory.
    """
    message = "pg_catalog.pg_logical_emit_message(true, 'vecfill', '')" if commit else "NULL"
    return sql.SQL(
        "SELECT {message}, (SELECT true FROM {only}{name} WHERE ctid OPERATOR(pg_catalog.=) {tid}::pg_catalog.tid)"
    ).format(
        message=sql.SQL(message),
        only=sql.SQL("ONLY " if leaf.only else ""),
        name=leaf.name,
        tid=sql.Literal(f"({page},1)"),
    )
