"""The exceptions of vecfill, and the class that each fault of the database belongs to.

Every exception survives pickling (Ray sends them between processes) and carries the exit code that the command line
ends with. A message says what is wrong, the value, the limit and the remedy.
"""

from __future__ import annotations

import enum


class VecfillError(Exception):
    """Root of all errors that vecfill raises on purpose; the command line prints them without a traceback."""

    exit_code = 1


class ConfigError(VecfillError):
    """The settings, the target or the server cannot work as given: found before a row is written."""

    exit_code = 2


class UnreachableError(ConfigError):
    """The server does not answer, or lets this role not in."""


class MixedModelsError(ConfigError):
    """The vectors that are already there were not made by this model."""


class SecretError(ConfigError):
    """A command gave no password or key; it may when it is asked again."""


class DatabaseError(VecfillError):
    """The server answered with an error that belongs to no single row, or stayed away for too long."""


class ServerGoneError(DatabaseError):
    """The server stayed away for too long."""


class EncodeError(VecfillError):
    """The model failed in a way that belongs to no single text."""


class BudgetError(VecfillError):
    """An API's budget was reached before the work was done; nothing was sent beyond it."""

    exit_code = 5


class EngineError(VecfillError):
    """What carries the run broke: a process of Ray's died, or its cluster went away."""


class Fault(enum.Enum):
    """What a database error means for the batch that met it (DESIGN 7)."""

    ROW = "row"
    TRANSIENT = "transient"
    RESOURCE = "resource"
    CONFIGURATION = "configuration"
    FATAL = "fatal"


_TRANSIENT = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05", "53300"})
_RESOURCE = frozenset({"57014"})
_ROW_CLASSES = ("22", "23", "P0")
_ROW = frozenset({"42501"})
_CONFIGURATION = frozenset({"25006", "55000"})
_CONFIGURATION_CLASSES = ("0A", "28", "3D", "3F", "42")


def classify(sqlstate: str | None) -> Fault:
    """Returns the class of a server's error.

    Args:
        sqlstate: the five characters of the error, or None where the connection broke before the server could say
            (psycopg's ``OperationalError`` without a SQLSTATE, seen after ``pg_terminate_backend`` in a COPY).

    ``42501`` counts as a row's fault: privileges are checked before the first row is read, so what is left of that
    code is a row-level policy. ``55000`` is the answer of a published table without a replica identity. ``57014``
    counts as a resource fault; who sent the cancel is the caller's to find out.
    """
    if sqlstate is None or sqlstate.startswith("08") or sqlstate in _TRANSIENT:
        return Fault.TRANSIENT
    if sqlstate in _RESOURCE:
        return Fault.RESOURCE
    if sqlstate in _ROW or sqlstate[:2] in _ROW_CLASSES:
        return Fault.ROW
    if sqlstate in _CONFIGURATION or sqlstate[:2] in _CONFIGURATION_CLASSES:
        return Fault.CONFIGURATION
    return Fault.FATAL
