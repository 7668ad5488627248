"""The lease: one run works on a target at a time.

It is a few columns of the target's row, taken and renewed by the server's clock, so it works behind a transaction
pooler, and a lost connection leaves nothing behind. Each write checks it in the statement that writes (``write_sql``):
a run that was paused while another took over can write nothing.
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from vecfill.errors import LeaseError, VecfillError
from vecfill.ledger.registry import Tracked
from vecfill.ledger.run_log import RunLog
from vecfill.log_fields import in_context
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import Session
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

LOST = "lease"
"""Stop reason: another run took over the target."""

RELEASE_S = 3.0
"""Longest time to give a lease back at the end of a run; it ends by itself."""

BEATS = 4
"""Renewals in the time of a lease."""

LOOK_S = 1.0
"""Seconds between two looks at the settings of the run, on the connection of the renewals."""


class Lease:
    """The right to work on one tracked target; a context manager that gives it back.

    Its end raises LeaseError if another run took over meanwhile, even if this one has nothing left to write.

    Attributes:
        holder: the name of this run in the ledger.
        seconds: how long the lease lasts without a sign of life.
    """

    def __init__(
        self, session: Session, seconds: float, *, stop: Callable[[str], None], record: RunLog | None = None
    ) -> None:
        """Makes it, without taking it.

        Args:
            session: of the run, which gives the lease back. The renewals have a connection of their own.
            seconds: how long the lease lasts without a sign of life.
            stop: called if the lease is lost.
            record: written when the lease is taken, renewed and given back.
        """
        self.holder, self.seconds = record.run_id if record else str(uuid.uuid4()), seconds
        self._session, self._stop, self._record = session, stop, record
        self._relation: Relation | None = None
        self._released = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=in_context(self._renew), name="vecfill lease", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._relation is None:
            return
        self._over.set()
        self._thread.join(self.seconds)
        kept = True
        until = time.monotonic() + RELEASE_S
        try:
            kept = self._session.finish(self._release, stopped=lambda: time.monotonic() > until)
        except (VecfillError, psycopg.Error) as failed:
            reason = server_message(failed)
            log.warning("the lease could not be given back, and ends in %.0f s: %s", self.seconds, reason)
        if not kept and kind is None:
            raise lost(self._relation)

    def take(self, connection: Connection, tracked: Tracked) -> Tracked:
        """Takes the lease of a tracked target and begins to renew it.

        Returns:
            The target with this run as its holder.

        Raises:
            LeaseError: another run holds it, or the column has another name now.
        """
        relation = tracked.relation
        held = replace(relation, tracking=replace(relation.ledger, holder=self.holder))
        with transaction(connection) as cursor:
            query = sql.SQL(_TAKE).format(held.ledger.targets)
            column = relation.table.vector.name
            if not cursor.execute(query, (held.ledger.id, self.holder, _own_name(), self.seconds, column)).fetchone():
                raise _held(cursor, relation) or LeaseError(
                    f"{relation.table.label}: another run worked on it a moment ago, or {column} was renamed: run again"
                )
        if self._record:
            self._record.begin(connection, held)
        if self._relation is None:
            self._relation = held
            self._thread.start()
        return replace(tracked, relation=held)

    def check(self, stop_reason: str | None) -> None:
        """Checks that the run was not stopped because another took over.

        Raises:
            LeaseError: it was.
        """
        if stop_reason == LOST and self._relation is not None:
            raise lost(self._relation)

    def _renew(self) -> None:
        with closing(Session(self._session.database, stopped=self._over.is_set)) as session:
            renew_every = self.seconds / BEATS
            look_every = min(LOOK_S, renew_every) if self._record else renew_every
            due = time.monotonic() + renew_every
            while not self._over.wait(min(look_every, max(0.0, due - time.monotonic()))):
                try:
                    if time.monotonic() < due:
                        session.run(self._looked)
                        continue
                    due = time.monotonic() + renew_every
                    kept = session.run(self._renewed)
                except (VecfillError, psycopg.Error) as error:
                    if not self._over.is_set():
                        log.warning("the lease could not be renewed: %s", server_message(error))
                    continue
                if not kept:
                    self._stop(LOST)
                    return

    def _renewed(self, connection: Connection) -> bool:
        assert self._relation is not None  # noqa: S101
        tracking = self._relation.ledger
        with transaction(connection) as cursor:
            query = sql.SQL(_RENEW).format(tracking.targets)
            row = cursor.execute(query, (tracking.id, self.holder, self.seconds)).fetchone()
        if row and self._record:
            self._record.beat(connection)
        return row is not None

    def _looked(self, connection: Connection) -> None:
        if self._record:
            self._record.look(connection)

    def _release(self, connection: Connection) -> bool:
        """Returns False if another run has taken over; True if that is not known, since an attempt may have worked."""
        assert self._relation is not None  # noqa: S101
        tracking, first = self._relation.ledger, not self._released
        self._released = True
        if self._record:
            self._record.end(connection)
        with transaction(connection) as cursor:
            query = sql.SQL(_RELEASE).format(tracking.targets)
            row = cursor.execute(query, (tracking.id, self.holder)).fetchone()
        return row is not None or not first


def held_by_other(connection: Connection, relation: Relation) -> LeaseError | None:
    """Returns the error of a run that starts now, if another run holds the target; takes nothing."""
    with transaction(connection, read_only=True) as cursor:
        return _held(cursor, relation)


def _held(cursor: Cursor, relation: Relation) -> LeaseError | None:
    found = cursor.execute(sql.SQL(_HOLDER).format(relation.ledger.targets), (relation.ledger.id,)).fetchone()
    return _held_by(relation, *found) if found else None


def _held_by(relation: Relation, name: str, since: str, left: float) -> LeaseError:
    return LeaseError(
        f"{relation.table.label} is being worked on by {name} since {since}: wait for it, or stop it; if it died, its "
        f"lease ends in {max(0, left):.0f} s"
    )


def lost(relation: Relation) -> LeaseError:
    """Returns the error of a run whose target another run took over."""
    return LeaseError(
        f"this run no longer holds {relation.table.label}: another run has taken over, since this one showed no sign "
        "of life for longer than --lease allows, or `vecfill track` has changed its text: it writes nothing more"
    )


_TAKE = """
UPDATE {} SET holder = $2, holder_name = $3, held_since = CASE WHEN holder OPERATOR(pg_catalog.=) $2::pg_catalog.text
    THEN held_since ELSE pg_catalog.clock_timestamp() END, held_until =
  pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $4::pg_catalog.float8)
WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4
  AND (holder IS NULL OR holder OPERATOR(pg_catalog.=) $2::pg_catalog.text
    OR held_until OPERATOR(pg_catalog.<) pg_catalog.clock_timestamp())
  AND embedding OPERATOR(pg_catalog.=) $5::pg_catalog.text
RETURNING id
"""
"""Not if a migration has given the column another name since this run looked at it: its vectors would go elsewhere."""

_HOLDER = """
SELECT holder_name, pg_catalog.to_char(held_since, 'YYYY-MM-DD HH24:MI:SS "UTC"'),
  (EXTRACT(epoch FROM held_until OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp()))::pg_catalog.float8
FROM {} WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND holder IS NOT NULL
  AND held_until OPERATOR(pg_catalog.>=) pg_catalog.clock_timestamp()
"""

_RENEW = """
UPDATE {} SET held_until =
  pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $3::pg_catalog.float8)
WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND holder OPERATOR(pg_catalog.=) $2::pg_catalog.text
RETURNING id
"""

_RELEASE = """
UPDATE {} SET holder = NULL, holder_name = NULL, held_since = NULL, held_until = NULL
WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND holder OPERATOR(pg_catalog.=) $2::pg_catalog.text
RETURNING id
"""


def _own_name() -> str:
    """Returns host, process and user of this run, for other runs' messages."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"
