"""Waits for the server: work is repeated after a transient fault, and a stop ends every wait."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from vecfill.errors import DatabaseError, SecretError, ServerGoneError, StoppedError, TableLockedError
from vecfill.interruptible import POLL_S, Stopped, interruptible
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import is_transient, server_message

T = TypeVar("T")

GiveUp = Callable[[BaseException | None, int], bool]
"""Whether to raise a transient error as it is, after so many attempts."""

RETRY_FOR_S = 120.0
"""Seconds to retry after a broken connection or a conflict: a failover of a hosted server takes 30 to 60."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
"""Limits of the random wait before the second attempt, which doubles each time, and before later ones."""

LOCKED_FOR_S = 30.0
"""Seconds for which a reader waits for a locked table, with breaks: as long as the sweeps of a run retry its writes."""

END_S = 2.0
"""Longest wait for the server to cancel a statement after a stop, and for a connection to write what is finished."""


def connected(database: Database, stopped: Stopped | None) -> Connection:
    """Connects, which may run a command and wait for a host that does not answer.

    Raises:
        StoppedError: ``stopped`` became true.
    """
    return database.connect() if stopped is None else interruptible(database.connect, stopped, discard=Connection.close)


def past_the_end(stopped: Stopped | None) -> Stopped | None:
    """``stopped``, but ``END_S`` seconds later: finished vectors, perhaps paid for, are worth a connection."""
    if stopped is None:
        return None
    ends = [float("inf")]

    def past() -> bool:
        if stopped():
            ends[0] = min(ends[0], time.monotonic() + END_S)
        return time.monotonic() >= ends[0]

    return past


def queried(
    connection: Connection, work: Callable[[Connection], T], stopped: Stopped | None, *, forget: Callable[[], None]
) -> T:
    """Calls ``work`` with the connection; a stop cancels its statement.

    Raises:
        StoppedError: ``stopped`` became true; ``forget`` was called, since the connection will be closed.
    """
    if stopped is None:
        return work(connection)

    def interrupt(thread: threading.Thread) -> None:
        forget()
        ender = threading.Thread(target=_end, args=(connection, thread), daemon=True)
        ender.start()
        ender.join(END_S)

    return interruptible(lambda: work(connection), stopped, interrupt=interrupt)


def never_give_up(_error: BaseException | None, _attempts: int) -> bool:
    """Retries a transient error until the time is over."""
    return False


def repeated(
    attempt: Callable[[], T],
    label: str,
    stopped: Stopped | None,
    *,
    locks: bool,
    give_up: GiveUp = never_give_up,
    before_sleep: Callable[[RetryCallState], None],
) -> T:
    """Calls ``attempt`` until it succeeds, fails for good, or the run is to stop.

    Args:
        attempt: what to do.
        label: of the database, for messages.
        stopped: whether the run should stop.
        locks: also wait for a table that another session has locked.
        give_up: whether to raise a transient error, unchanged, before the time is over.
        before_sleep: called before each wait.

    Raises:
        StoppedError, ServerGoneError, TableLockedError, SecretError, psycopg.Error: see ``Session.run``.
    """
    stopped = stopped or _never

    def again(error: BaseException) -> bool:
        return is_transient(error) or (locks and isinstance(error, psycopg.errors.LockNotAvailable))

    retrying = Retrying(
        retry=retry_if_exception(again),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        stop=lambda state: stopped() or _is_too_long(state) or give_up(_error(state), state.attempt_number),
        sleep=lambda seconds: _sleep(seconds, stopped),
        before_sleep=before_sleep,
        reraise=True,
    )
    try:
        return retrying(attempt)
    except (psycopg.Error, SecretError) as error:
        if not again(error):
            raise
        if stopped():
            raise StoppedError(f"{label}: {server_message(error)}") from error
        if isinstance(error, psycopg.Error) and not give_up(error, retrying.statistics["attempt_number"]):
            raise _given_up(label, error) from error
        raise


def _given_up(label: str, error: psycopg.Error) -> DatabaseError:
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return TableLockedError(
            f"{label}: the table is locked as a whole by another session, such as one that builds an index, for over "
            f"{LOCKED_FOR_S:.0f} s: {server_message(error)}: run again when it has finished"
        )
    return ServerGoneError(
        f"{label} did not recover within {RETRY_FOR_S:.0f} s: {server_message(error)}: "
        "run again when the server answers; committed rows are kept"
    )


def _end(connection: Connection, thread: threading.Thread) -> None:
    """Cancels the statements of a thread until it has ended, and closes its connection.

    Otherwise the server would work on a statement although its client is gone.
    """
    while thread.is_alive():
        with contextlib.suppress(psycopg.Error):
            connection.cancel_safe(timeout=END_S)
        thread.join(POLL_S)
    connection.close()


def _never() -> bool:
    return False


def _sleep(seconds: float, stopped: Stopped) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, POLL_S))


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _is_too_long(state: RetryCallState) -> bool:
    """Whether the last error has lasted for too long."""
    locked = isinstance(_error(state), psycopg.errors.LockNotAvailable)
    return (state.seconds_since_start or 0.0) >= (LOCKED_FOR_S if locked else RETRY_FOR_S)
