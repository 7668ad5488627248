"""What ``migrate swap`` and ``migrate rollback`` share: the wait, and the exchange with what is embedded before it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from vecfill.backfill.result import EXIT_INCOMPLETE
from vecfill.backfill.run import run as fill
from vecfill.config.migrate import LockOptions, SwapOptions
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.engine.warm import Warm
from vecfill.errors import ConfigError, LeaseError
from vecfill.ledger.completed_target import find_completed
from vecfill.ledger.migrations import SWAPPED
from vecfill.migration.brief_lock import under_lock
from vecfill.migration.cutover import Cutover, QueuedError
from vecfill.migration.fill import DONE
from vecfill.migration.look import Found, check_owner, need
from vecfill.postgres.database import Connection
from vecfill.postgres.introspect import inspect
from vecfill.postgres.session import Session
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

POLL_S = 0.5
"""Pause between looks for the file of ``--after``."""

LONGEST_PAUSE_S = 0.5
"""Longest pause before the next attempt when changes were queued."""


@dataclass(frozen=True, kw_only=True)
class MigrationSwapped:
    """What ``migrate swap`` or ``migrate rollback`` did, or with ``dry_run`` would do.

    Attributes:
        table: ``schema.table``.
        phase: ``swapped`` or ``rolled back``.
        column: the application's column.
        other: the other one's name now.
        ddl: the statements, in order.
        behind: keys of rows whose text changed since the swap, and whose old vector does not follow; at most 1,000.
        done: False if an earlier call had done it.
    """

    table: str
    phase: str
    column: str
    other: str
    ddl: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    done: bool = True
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "exit_code"}


def find_open(connection: Connection, target: Target) -> Found:
    """Finds the migration in progress of a target, which this role may change.

    Raises:
        ConfigError: there is none, or this role may not.
    """
    found = need(connection, target)
    if found.migration.ended:
        raise ConfigError(f"the migration of {found.relation.table.label} was {found.migration.phase}")
    check_owner(connection, found.relation, target.state_schema)
    return found


def cutover_of(session: Session, found: Found, leaves: Target, options: SwapOptions, phase: str) -> Cutover:
    """Describes the exchange; ``leaves`` has the column that gives up the application's name."""
    relation = session.run(lambda connection: inspect(connection, leaves, text_needed=False, key_needed=False))
    queued = options.max_queued if phase == SWAPPED or options.refresh else None
    return Cutover(
        schema=leaves.state_schema,
        migration=found.migration,
        relation=relation,
        phase=phase,
        recreate=options.views == "recreate",
        max_queued=queued,
    )


def statements_of(connection: Connection, cut: Cutover) -> tuple[str, ...]:
    """The statements by a look without the lock, which finds early what the one under it would find."""
    with transaction(connection, read_only=True) as cursor:
        return tuple(statement.as_string() for statement in cut.plan(cursor))


def wait_for(options: SwapOptions) -> None:
    """Waits until the file of ``--after`` exists."""
    if options.after is None or options.after.exists():
        return
    log.info("waiting for file %s", options.after)
    while not options.after.exists():
        time.sleep(POLL_S)


def exchange(session: Session, cut: Cutover, locks: LockOptions, refresh: Callable[[], None]) -> None:
    """Embeds what is queued and exchanges the names, again and again until nothing was queued under the lock.

    Raises:
        As ``persistently``.
    """

    def attempt(until: float) -> None:
        with suppress(QueuedError):  # the look under the lock decides
            refresh()
        verb = "swapped" if cut.forward else "rolled back"
        under_lock(session, cut.relation, locks, cut.statements, verb=verb, until=until)

    persistently(attempt, locks)


def persistently(attempt: Callable[[float], None], locks: LockOptions) -> None:
    """Calls ``attempt`` with the end of the time by ``time.monotonic``, until it succeeds or that has come.

    Raises:
        QueuedError: changes were queued at each attempt, or LeaseError: a run was at work.
    """
    until = time.monotonic() + locks.lock_wait
    while True:
        try:
            return attempt(until)
        except (QueuedError, LeaseError):
            if time.monotonic() >= until:
                raise
            time.sleep(random.uniform(0.0, LONGEST_PAUSE_S))  # noqa: S311


def drain(session: Session, target: Target, model: Model, warm: Warm) -> None:
    """Embeds what is queued.

    Raises:
        QueuedError: some of it is left, since rows stayed locked or kept changing.
        ConfigError: it did not come to an end for another reason, such as a budget.
    """
    target = session.run(lambda connection: _completed(connection, target))
    result = fill(target, model, database=session.database, options=RunOptions(yes=True, offered=()), warm=warm)
    if result.exit_code in DONE:
        return
    spent = result.api.spent if result.api else None
    kind = QueuedError if result.exit_code == EXIT_INCOMPLETE and not spent else ConfigError
    why = f" ({spent})" if spent else ""
    raise kind(f"{result.table}.{target.column}: the last run was {result.outcome}{why}: run `vecfill run` first")


def _completed(connection: Connection, target: Target) -> Target:
    """The target with the text and key that the ledger knows, if it was given without."""
    relation = inspect(connection, target, text_needed=False, key_needed=False)
    return find_completed(connection, target, relation)[0]
