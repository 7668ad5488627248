"""What an error of a batch means: a smaller batch may escape it, the table is locked, or the run ends."""

from __future__ import annotations

import logging

import psycopg

from vecfill.bisection import SharedFaultError
from vecfill.blocks import OUTCOMES
from vecfill.errors import ConfigError, DatabaseError, Fault, TooSlowError, VecfillError, classify
from vecfill.postgres.driver_errors import is_raised, is_reported, is_row_fault, server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.server import STATEMENT_TIMEOUT_MS
from vecfill.postgres.timeouts import SETTINGS, is_interrupt, setting_of, timed_out
from vecfill.write.write_batch import BatchResult, LostWhileWritingError

log = logging.getLogger(__name__)

OUT_OF_MEMORY = "53200"

CONFLICT_ATTEMPTS, CONFLICT_ATTEMPTS_OF_A_PART = 4, 2
"""Attempts to write a batch, and a part of one, that the server itself refuses for a conflict, such as a deadlock. A
server that is away is retried for much longer."""

LOST_ATTEMPTS = 3
"""Attempts to write a batch of which each ends the connection: a trigger may end its own session, or crash it."""

_CONFLICTS = frozenset({"40001", "40P01", "55P03"})

MAX_LOCK_WAITS = 8
"""Waits of a batch for locks that its triggers need, each of ``LOCK_TIMEOUT``; then a part counts as locked."""


def check_escapable(error: psycopg.Error, seconds: float, relation: Relation) -> None:
    """Returns if a smaller batch may escape the error of a batch that took so many seconds.

    Raises:
        TooSlowError: it may, and the batch exceeded a time limit.
        ConfigError, DatabaseError: it cannot.
    """
    if error.sqlstate in SETTINGS and is_interrupt(error):
        raise _interrupted(error, seconds, relation) from error
    if is_row_fault(error) or classify(error.sqlstate) is Fault.TRANSIENT:
        return
    raise _final(error, relation) from error


def may_be_one_rows(error: Exception) -> bool:
    """Whether an error that ``check_escapable`` let pass may be the fault of single rows."""
    return isinstance(error, (psycopg.Error, TooSlowError))


def is_slow(error: Exception) -> bool:
    """Whether an attempt took all of a time limit, waited for a lock, or cost connections: few are to fail so."""
    if isinstance(error, (TooSlowError, LostWhileWritingError)):
        return True
    return isinstance(error, psycopg.Error) and is_locked(error) and is_interrupt(error)


def is_locked(error: BaseException | None) -> bool:
    """Whether another session's lock prevented the write, and no function that raised such an error."""
    return isinstance(error, psycopg.errors.LockNotAvailable) and not is_raised(error)


def is_table_lock(error: psycopg.Error) -> bool:
    """Whether our own statement waited for the lock: rows that are locked it skips. A trigger's wait has a context."""
    return is_locked(error) and error.diag.context is None


def is_conflict(error: Exception) -> bool:
    """Whether the server refuses the write because of another session; the next sweep may succeed."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _CONFLICTS and not is_raised(error)


def give_up(error: BaseException | None, attempts: int, *, part: bool) -> bool:
    """Whether to try smaller batches after so many attempts, where the server is there."""
    if isinstance(error, LostWhileWritingError):
        return attempts >= LOST_ATTEMPTS
    if not isinstance(error, psycopg.Error) or not is_reported(error):
        return False
    if not part:
        return attempts >= CONFLICT_ATTEMPTS
    return is_raised(error) or attempts >= CONFLICT_ATTEMPTS_OF_A_PART


def explain_shared(error: SharedFaultError, relation: Relation) -> Exception:
    """Returns the error that ends the run after several rows failed one by one."""
    cause = error.__cause__
    if isinstance(cause, TooSlowError):
        return DatabaseError(f"every row of {relation.table.label} that was tried {cause}")
    if isinstance(cause, psycopg.Error) and classify(cause.sqlstate) is Fault.CONFIGURATION:
        return _final(cause, relation)
    return error


def locked(rows: int) -> BatchResult:
    """Returns the account of rows that another session's lock keeps from being written."""
    return BatchResult(dict.fromkeys(OUTCOMES, 0) | {"locked": rows})


def _interrupted(error: psycopg.Error, seconds: float, relation: Relation) -> VecfillError:
    limit = int(relation.access.settings.get("statement_timeout", STATEMENT_TIMEOUT_MS))
    if not timed_out(error, seconds, limit):
        return DatabaseError(
            f"a write was cancelled on the server, not by our own timeout: {server_message(error)}: run again to "
            "continue"
        )
    setting, remedy = setting_of(error), f", or raise {setting_of(error)} of role {relation.access.server.role}"
    if error.sqlstate == "57014":
        setting += f" ({limit / 1000:g} s)"
        remedy = remedy if limit < STATEMENT_TIMEOUT_MS else ""  # a longer one of the role changes nothing
    return TooSlowError(
        f"takes longer to write than {setting} allows: {server_message(error)}: make its triggers faster{remedy}"
    )


def _final(error: psycopg.Error, relation: Relation) -> VecfillError:
    kind = ConfigError if classify(error.sqlstate) is Fault.CONFIGURATION else DatabaseError
    return kind(f"writing {relation.table.label} failed: {server_message(error)}")
