"""Decides what holds a run back: a file, a query, a slow server, and what ``vecfill status --set`` asks for.

One thread of the process that started the run looks at all of them, on one connection of its own, and writes the result
into the run's ``Stop``; the engines pass it on to their workers, on whatever machine these are.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from vecfill.backfill.checks import understood
from vecfill.backfill.probing import Probing
from vecfill.background import in_background
from vecfill.config.adjustments import ADJUSTABLE, adjusted, as_texts
from vecfill.config.limits import WriteLimits
from vecfill.errors import ConfigError, StoppedError, VecfillError
from vecfill.job import Hold, Stop
from vecfill.postgres import pacing_sql
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import Session
from vecfill.postgres.template import verbatim_sql
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

THREAD = "vecfill pacing"
"""Name of the thread that looks."""

LOOK_S, QUERY_EVERY_S = 0.5, 1.0
"""Seconds between two looks, and between two runs of ``--pause-query``."""


class Pacing:
    """What holds one run back."""

    def __init__(self, database: Database, limits: WriteLimits, stop: Stop) -> None:
        """Takes the target's database, the run's limits, and the request to stop, whose ``hold`` it sets."""
        self._database, self._limits, self._stop = database, limits, stop
        self._wake, self._over = threading.Event(), False
        self._paused_since = 0.0
        self._asked, self._answer = float("-inf"), ""
        self._settings: dict[str, Any] | None = None

    def adjust(self, settings: Mapping[str, Any]) -> None:
        """Takes the run's settings from the ledger, which `vecfill status --set` changes; safe in any thread."""
        now = {name: settings[name] for name in ADJUSTABLE if name in settings}
        if now == self._settings:
            return
        self._settings = now
        try:
            limits = adjusted(self._limits, now)
        except ConfigError as error:
            log.warning("settings in the ledger are ignored: %s", error)
            return
        if limits != self._limits:
            self._limits = limits
            text = ", ".join(as_texts(now)) or "no limit"
            extra = {"event": "settings", "settings": now}
            log.warning("new settings by `vecfill status --set`: %s", text, extra=extra)
            self._wake.set()

    @contextmanager
    def watching(self, relation: Relation) -> Iterator[None]:
        """Looks at once, and then again and again until the end of the body, on a connection of its own if need be."""
        self._over = False
        with closing(Session(self._database, stopped=self._ended)) as session:
            probing = Probing(session, relation)
            self._look(session, probing)
            try:
                with in_background(THREAD, lambda: self._watch(session, probing), self._end):
                    yield
            finally:
                self._resume("stopped" if self._stop.is_set() else "ended")
                self._stop.hold = Hold()

    def _end(self) -> None:
        self._over = True
        self._wake.set()

    def _ended(self) -> bool:
        return self._over or self._stop.is_set()

    def _watch(self, session: Session, probing: Probing) -> None:
        while not self._ended():
            self._wake.wait(LOOK_S)
            self._wake.clear()
            self._look(session, probing)

    def _look(self, session: Session, probing: Probing) -> None:
        limits = self._limits
        try:
            reason = "; ".join(self._reasons(limits, session))
            share = probing.share(None if reason else limits.max_latency, limits.max_latency_s)
        except StoppedError:
            return
        hold = Hold(paused=reason or None, max_rate=limits.max_rate or math.inf, share=share)
        self._log_pause(hold)
        self._stop.hold = hold

    def _reasons(self, limits: WriteLimits, session: Session) -> Iterator[str]:
        if limits.pause:
            yield "`vecfill status --set pause=true`"
        if limits.pause_file is not None:
            yield from _state_of(limits.pause_file)
        if limits.pause_query is not None:
            if time.monotonic() - self._asked >= QUERY_EVERY_S:
                self._answer = _answer(session, limits.pause_query)
                self._asked = time.monotonic()
            if self._answer:
                yield self._answer

    def _log_pause(self, hold: Hold) -> None:
        if hold.paused == self._stop.hold.paused:
            return
        if not hold.paused:
            self._resume("continuing")
            return
        self._paused_since = self._paused_since or time.monotonic()
        extra = {"event": "pause", "throttle": "pause", "waits_for": hold.waits_for}
        log.warning("pausing: %s", hold.paused, extra=extra)

    def _resume(self, how: str) -> None:
        if self._paused_since:
            seconds, self._paused_since = time.monotonic() - self._paused_since, 0.0
            extra = {"event": "resume", "throttle": "pause", "seconds": seconds}
            log.warning("%s after a pause of %.0f s", how, seconds, extra=extra)


def check_pause_query(connection: Connection, limits: WriteLimits) -> None:
    """Runs ``--pause-query`` once, in a transaction that may not write.

    Raises:
        ConfigError: it is no SELECT of one boolean, or it fails.
    """
    if limits.pause_query is None:
        return
    complaint = "--pause-query does not work as one SELECT of one boolean"
    try:
        with (
            understood(complaint, "correct it"),
            transaction(connection, pacing_sql.SETTINGS, read_only=True) as cursor,
        ):
            for query in pacing_sql.pause_checks(verbatim_sql(limits.pause_query)):
                cursor.execute(query, ())
    except psycopg.errors.QueryCanceled as error:
        limit = pacing_sql.SETTINGS["statement_timeout"]
        raise ConfigError(f"--pause-query takes longer than its limit of {limit}: make it faster") from error


def _state_of(path: str) -> Iterator[str]:
    """Yields why the run must pause by this file, if it must: also if nobody can tell."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield f"--pause-file {path}: {error.strerror}"
    else:
        yield f"{path} exists"


def _answer(session: Session, query: str) -> str:
    """Why the run must pause by the user's query; empty if it need not.

    An error pauses too: a query that times out must not mean that the server is idle.
    """
    statement = pacing_sql.is_paused(verbatim_sql(query))

    def ask(connection: Connection) -> bool:
        with transaction(connection, pacing_sql.SETTINGS, read_only=True, first=statement, parameters=()) as cursor:
            row = cursor.fetchone()
        return bool(row and row[0])

    try:
        return "--pause-query is true" if session.run(ask) else ""
    except StoppedError:
        raise
    except (psycopg.Error, VecfillError) as error:
        return f"--pause-query fails: {server_message(error)}"
