"""Measures how slow the server is for others, for ``--max-latency``, and says so when the run slows down."""

from __future__ import annotations

import logging
import random
import time

import psycopg

from vecfill.backfill.latency import LEAST, WritingShare
from vecfill.errors import StoppedError, VecfillError
from vecfill.postgres import pacing_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import Session
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

PROBE_EVERY_S = 1.0
"""Seconds between two probes."""


class Probing:
    """Probes the server on a session of its own, and keeps the share of the time in which writers may write."""

    def __init__(self, session: Session, relation: Relation) -> None:
        self._session, self._relation = session, relation
        self._share, self._at = WritingShare(), float("-inf")
        self._slow_since, self._at_least = 0.0, False
        self._commit, self._complaint = True, ""

    def share(self, limit: str | None, seconds: float | None) -> float:
        """Returns the share, after a probe if one is due.

        Args:
            limit: ``--max-latency`` as the user wrote it; None to probe nothing now.
            seconds: the same in seconds; None if there is no such limit any more.

        Raises:
            StoppedError: the run is to stop.
        """
        if seconds is None:
            self._share.value = 1.0
            self._resume()
        elif limit is not None and time.monotonic() - self._at >= PROBE_EVERY_S:
            took = self._probe()
            self._at = time.monotonic()
            if took is not None:
                self._update(took, limit, seconds)
        return self._share.value

    def _update(self, took: float, limit: str, seconds: float) -> None:
        before = self._share.value
        self._share.update(took, seconds)
        at_least = self._share.value == LEAST and not self._at_least
        if self._share.value < before and (before == 1.0 or at_least):
            self._at_least = self._at_least or at_least
            self._slow_since = self._slow_since or time.monotonic()
            text = f"a probe of the server took {took * 1000:.0f} ms, and the limit is {limit}"
            extra = {"event": "slow", "throttle": "latency", "waits_for": f"a faster server (--max-latency {limit})"}
            percent = 100 * self._share.value
            log.warning("slowing down: %s; writing %.0f%% of the time", text, percent, extra=extra)
        elif self._share.value == 1.0:
            self._resume()

    def _resume(self) -> None:
        if self._slow_since:
            seconds, self._slow_since, self._at_least = time.monotonic() - self._slow_since, 0.0, False
            extra = {"event": "resume", "throttle": "latency", "seconds": seconds}
            log.warning("writing at full speed again after %.0f s", seconds, extra=extra)

    def _probe(self) -> float | None:
        """Returns the seconds of a probe, also of one that timed out; None if nothing can be measured."""
        leaf = random.choice([leaf for leaf in self._relation.table.leaves if not leaf.queue])  # noqa: S311
        query = pacing_sql.probe(leaf, random.randrange(max(1, leaf.pages)), commit=self._commit)  # noqa: S311
        seconds = 0.0

        def probe(connection: Connection) -> None:
            nonlocal seconds
            started = time.perf_counter()
            try:
                with transaction(connection, pacing_sql.SETTINGS, first=query, parameters=()):
                    pass
            except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled):
                pass  # it took as long as a probe may
            seconds = time.perf_counter() - started

        try:
            self._session.run(probe)
        except psycopg.errors.InsufficientPrivilege as error:
            if self._commit:
                self._commit = False  # a host may have revoked the function
                return self._probe()
            self._warn(error)
        except StoppedError:
            raise
        except (psycopg.Error, VecfillError) as error:
            self._warn(error)
        else:
            return seconds
        return None

    def _warn(self, error: Exception) -> None:
        if (message := server_message(error)) != self._complaint:
            self._complaint = message
            log.warning("--max-latency cannot be measured, and the run goes on as fast as before: %s", message)
