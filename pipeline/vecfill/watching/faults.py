"""What a fault of a watched target means: it passes by itself, as a server that restarts does, or it lasts."""

from __future__ import annotations

import psycopg
from psycopg import conninfo, pq

from vecfill.errors import (
    ConfigError,
    DatabaseError,
    PartialRunError,
    ReadOnlyError,
    SecretError,
    ServerGoneError,
    TableLockedError,
    UnreachableError,
    VecfillError,
)
from vecfill.postgres.database import Database
from vecfill.postgres.driver_errors import is_transient, lacks_resources, server_message

_READ_ONLY = psycopg.errors.ReadOnlySqlTransaction


class PassingError(VecfillError):
    """Something that passes by itself ended a drain."""


def passes(error: BaseException, place: Database, *, first: bool) -> bool:
    """Whether the fault passes by itself.

    Args:
        error: what was raised.
        place: the database.
        first: the target was not checked yet: then a server that answers and rejects the connection, or changes, does
            not pass. Later it may fail over, or its host made it read-only because its disk is nearly full.
    """
    if isinstance(error, PartialRunError) and error.__cause__ is not None:
        error = error.__cause__
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    if isinstance(error, SecretError | ReadOnlyError) or isinstance(error.__cause__, _READ_ONLY):
        return not first
    if isinstance(error, UnreachableError):
        return not first or not _answers(place)
    return isinstance(error, ServerGoneError | TableLockedError | PassingError) or (
        isinstance(cause, psycopg.Error) and (is_transient(cause) or lacks_resources(cause))
    )


def _answers(place: Database) -> bool:
    """Whether a server, or a pooler, answers there and is not just starting."""
    keep = {name: value for name, value in conninfo.conninfo_to_dict(place.conninfo).items() if name != "password"}
    return pq.PGconn.ping(conninfo.make_conninfo("", **keep).encode()) == pq.Ping.OK


def known(error: BaseException) -> bool:
    """Whether the message says all; else it is a defect, whose traceback is worth a look."""
    return isinstance(error, VecfillError | psycopg.Error)


def message(error: BaseException) -> str:
    """Returns the error in one line."""
    text = server_message(error)
    return text if known(error) and text else " ".join(f"{type(error).__name__}: {text}".split())


def code(error: BaseException) -> int:
    """Returns the exit code of a fault that lasts."""
    return error.exit_code if isinstance(error, VecfillError) else 1


def of_target(error: Exception, table: str) -> Exception:
    """Returns the error of one of several targets, with its table."""
    if not isinstance(error, VecfillError):
        return error
    named = ConfigError if code(error) == ConfigError.exit_code else VecfillError
    named_error = named(f"{table}: {error}")
    named_error.__cause__ = error
    return named_error
