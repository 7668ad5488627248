"""The runs of a tracked target, written by the runs themselves: when, how far, with which end.

Whoever can read the ledger sees a run in progress, from any machine. A run that cannot write here goes on: the log of
runs is for people, the data does not depend on it.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from vecfill.errors import VecfillError
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import is_transient, server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

KEPT = 100
"""Runs of a target that the ledger keeps."""

_PATIENCE = {"lock_timeout": "1s"}
"""Nobody but an administrator locks the table, and the lease must be renewed in time."""


class RunLog:
    """One run's row in the ledger.

    Attributes:
        run_id: the id of the run; it also names the holder of the lease.
    """

    def __init__(
        self,
        model: str,
        settings: Mapping[str, Any],
        progress: Callable[[], Mapping[str, Any] | None] = lambda: None,
        adjust: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> None:
        """Takes the model's name, the settings without secrets, and two functions.

        ``progress`` returns the state of the run; ``adjust`` takes the settings in the ledger, which others may change.
        """
        self.run_id = str(uuid.uuid4())
        self._model, self._settings, self._progress, self._adjust = model, settings, progress, adjust
        self._relation: Relation | None = None
        self._end: tuple[str, int, Mapping[str, Any]] | None = None
        self._warned, self._waits_for = False, None

    def begin(self, connection: Connection, relation: Relation) -> None:
        """Writes the row."""
        self._relation = relation
        settings = json.dumps(self._settings)
        self._write(connection, _BEGIN, (self.run_id, relation.ledger.id, self._model, settings))

    def beat(self, connection: Connection) -> None:
        """Writes that the run is alive, and how far it is."""
        progress = self._progress()
        self._waits_for = _wait_of(progress)
        self._write(connection, _BEAT, (self.run_id, json.dumps(progress)))

    def look(self, connection: Connection) -> None:
        """Reads the settings, which somebody may have changed; a wait that begins or ends is written at once."""
        if self._relation is None:
            return
        query = sql.SQL(_LOOK).format(sql.Identifier(self._relation.ledger.schema, "run"))
        try:
            with transaction(connection, _PATIENCE, read_only=True, first=query, parameters=(self.run_id,)) as cursor:
                row = cursor.fetchone()
        except psycopg.Error as error:
            if is_transient(error):
                raise
            log.debug("the settings of the run cannot be read: %s", server_message(error))
            return
        if row is not None:
            self._adjust(row[0])
        if _wait_of(self._progress()) != self._waits_for:
            self.beat(connection)

    def note_end(self, outcome: str, exit_code: int, counts: Mapping[str, Any]) -> None:
        """Notes how the run ended, for ``end`` to write."""
        self._end = outcome, exit_code, counts

    def end(self, connection: Connection) -> None:
        """Writes how the run ended, and removes the oldest rows of the target beyond ``KEPT``."""
        if self._end is not None and self._relation is not None:
            outcome, exit_code, counts = self._end
            parameters = self.run_id, outcome, exit_code, json.dumps(counts), self._relation.ledger.id, KEPT
            self._write(connection, _END, parameters)

    def _write(self, connection: Connection, query: LiteralString, parameters: tuple[Any, ...]) -> None:
        if self._relation is None:
            return
        table = sql.Identifier(self._relation.ledger.schema, "run")
        try:
            with transaction(connection, _PATIENCE, first=sql.SQL(query).format(table), parameters=parameters):
                pass
        except (VecfillError, psycopg.Error) as error:
            level = logging.DEBUG if self._warned else logging.WARNING
            log.log(level, "the run is not recorded in %s: %s", table.as_string(), server_message(error))
            self._warned = True


def _wait_of(progress: Mapping[str, Any] | None) -> Any:
    return progress.get("waiting_for") if progress else None


_BEGIN = """
INSERT INTO {} (id, target, model, settings)
VALUES ($1::pg_catalog.uuid, $2::pg_catalog.int4, $3::pg_catalog.text, $4::pg_catalog.jsonb) ON CONFLICT DO NOTHING
"""

_BEAT = """
UPDATE {} SET heartbeat = pg_catalog.clock_timestamp(), progress = $2::pg_catalog.jsonb
WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid
"""

_LOOK = "SELECT settings FROM {} WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid"

_END = """
WITH vecfill_old AS (
  DELETE FROM {0} WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY(
    SELECT id FROM {0} WHERE target OPERATOR(pg_catalog.=) $5::pg_catalog.int4
    ORDER BY started DESC, id OFFSET $6::pg_catalog.int8)))
UPDATE {0} SET heartbeat = pg_catalog.clock_timestamp(), finished = pg_catalog.clock_timestamp(),
  outcome = $2::pg_catalog.text, exit_code = $3::pg_catalog.int4, counts = $4::pg_catalog.jsonb
WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid
"""
