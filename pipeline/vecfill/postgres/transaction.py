"""Short transactions, each with the settings that decide what a text looks like and for how long it may wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import sql
from psycopg.abc import QueryNoTemplate

from vecfill.postgres.database import Connection, Cursor

PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "bytea_output": "hex",
}
"""Settings that determine the text form of a value. Every transaction pins them: otherwise a text's hash would depend
on the role that reads it."""

LOCK_TIMEOUT = "5s"
"""Longest wait for another session's lock, on a row or on the whole table (CREATE INDEX takes one): other sessions
queue behind a waiting lock request."""

_REFUSED = threading.Event()
"""Set once a role of this process may not call ``set_config``."""

_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"


@contextmanager
def transaction(
    connection: Connection,
    settings: Mapping[str, str] = {},
    *,
    read_only: bool = False,
    first: QueryNoTemplate | None = None,
    parameters: Sequence[Any] = (),
) -> Iterator[Cursor]:
    """Runs one short transaction with the pinned settings, and yields a cursor in binary mode.

    BEGIN, the settings and ``first`` are sent together, in one round trip instead of one each.

    Args:
        connection: from ``Database.connect``.
        settings: more settings for this transaction only, such as ``lock_timeout``.
        read_only: reject any change.
        first: the first statement; the cursor then holds its rows.
        parameters: parameters of ``first``.
    """
    local = {
        **PINNED,
        "lock_timeout": LOCK_TIMEOUT,
        **settings,
        **({"transaction_read_only": "on"} if read_only else {}),
    }
    with connection.cursor(binary=True) as cursor:
        try:
            _begin(connection, local, cursor, first, parameters)
            yield cursor  # type: ignore[misc]
        except BaseException:
            _rollback(connection)
            raise
        connection.commit()


def _begin(
    connection: Connection,
    local: Mapping[str, str],
    cursor: Any,
    first: QueryNoTemplate | None,
    parameters: Sequence[Any],
) -> None:
    """Sends what begins it; again without ``set_config`` where the role may not call it."""
    one_by_one = _REFUSED.is_set()  # another thread may set it meanwhile
    try:
        with connection.pipeline():
            connection.execute(_BEGIN)
            set_local(connection, local)
            if first is not None:
                cursor.execute(first, parameters)
    except psycopg.errors.InsufficientPrivilege as error:
        if one_by_one or "set_config" not in str(error.diag.message_primary):
            raise
        _REFUSED.set()
        connection.rollback()
        _begin(connection, local, cursor, first, parameters)


def _rollback(connection: Connection) -> None:
    """Rolls back; if that fails, closes the connection, which ends the transaction too."""
    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()


def set_local(connection: Connection, settings: Mapping[str, str]) -> None:
    """Changes settings until the transaction ends.

    One call of ``set_config`` takes half the time of a SET LOCAL each, but a role may lack the right to call it, which
    ``transaction`` finds out; and only what comes before it limits how long the call waits for a locked catalogue.
    """
    alone = settings.keys() if _REFUSED.is_set() else settings.keys() & {"lock_timeout"}
    for name in alone:
        connection.execute(_set_local(name, settings[name]))
    if together := tuple((name, value) for name, value in settings.items() if name not in alone):
        connection.execute(_set_config(together))


@lru_cache(maxsize=256)
def _set_local(name: str, value: str) -> bytes:
    return sql.SQL("SET LOCAL {} TO {}").format(sql.Identifier(name), sql.Literal(value)).as_bytes(None)


@lru_cache(maxsize=256)
def _set_config(settings: tuple[tuple[str, str], ...]) -> bytes:
    calls = (sql.SQL("pg_catalog.set_config({}, {}, true)").format(*pair) for pair in settings)
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls)).as_bytes(None)
