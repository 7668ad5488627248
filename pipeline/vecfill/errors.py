"""The exceptions of vecfill, and the fault class of each database error.

Every exception can be pickled (Ray sends them between processes) and has the exit code of the command line. A message
names the problem, the value, the limit and the remedy.
"""

from __future__ import annotations

import enum


class VecfillError(Exception):
    """Base class of all errors that vecfill raises itself; the command line prints them without a traceback."""

    exit_code = 1


class ConfigError(VecfillError):
    """The settings, the target or the server cannot work; detected before any row is written."""

    exit_code = 2


class UnreachableError(ConfigError):
    """The server does not answer, or rejects this role."""


class ReadOnlyError(ConfigError):
    """The server accepts no changes, or none of this role."""


class MixedModelsError(ConfigError):
    """The existing vectors come from a different model."""


class SecretError(ConfigError):
    """A command printed no password or key; a retry may succeed."""


class DatabaseError(VecfillError):
    """The server reported an error that no single row caused, or did not answer for too long."""


class ServerGoneError(DatabaseError):
    """The server did not answer for too long."""


class TableLockedError(DatabaseError):
    """Another session locked the whole table for too long."""


class TooSlowError(DatabaseError):
    """A time limit ended a statement; on fewer rows it may be in time. For a single row, the reason why it fails."""


class EncodeError(VecfillError):
    """The model failed for a reason other than a single text."""


class BudgetError(VecfillError):
    """An API budget was reached before the work was finished; nothing was sent beyond it."""

    exit_code = 5


class StoppedError(VecfillError):
    """The run was asked to stop before it wrote anything; ``exit_code`` tells by what."""

    exit_code = 5

    def __init__(self, message: str, exit_code: int = exit_code) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class LeaseError(VecfillError):
    """Another run works on this target: it holds the lease, or took it over while this run was paused."""

    exit_code = 4


class PartialRunError(VecfillError):
    """A ConfigError that came after a part of the rows was committed, or may have been; it is ``__cause__``."""


class EngineError(VecfillError):
    """The engine failed: a Ray process died, or the Ray cluster became unreachable."""


class Fault(enum.Enum):
    """The consequence of a database error for its batch (DESIGN 7)."""

    ROW = "row"
    TRANSIENT = "transient"
    RESOURCE = "resource"
    CONFIGURATION = "configuration"
    FATAL = "fatal"


_TRANSIENT = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05", "53300"})
_RESOURCE = frozenset({"57014", "25P03", "25P04", "53200"})
_ROW_CLASSES = ("22", "23", "54", "P0", "XX")
_ROW = frozenset({"42501"})
_CONFIGURATION = frozenset({"25006", "55000"})
_CONFIGURATION_CLASSES = ("0A", "28", "3D", "3F", "42")


def classify(sqlstate: str | None) -> Fault:
    """Returns the fault class of a server error.

    Args:
        sqlstate: the five characters of the error, or None if the connection broke before the server sent one
            (psycopg's ``OperationalError`` without a SQLSTATE, seen after ``pg_terminate_backend`` in a COPY).

    ``42501`` counts as a row fault: privileges are checked before the first row is read, so only a row-level policy can
    still cause it. So does class ``XX``: a broken TOAST value gives ``XX001`` or ``XX000``; if more is broken, all rows
    fail, and that ends the run. A published table without a replica identity gives ``55000``. ``57014`` counts as a
    resource fault, as do the other timeouts; the caller must find out who cancelled.
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
