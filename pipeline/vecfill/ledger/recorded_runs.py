"""Reads the runs of a tracked target from the ledger: the last ones, and the one in progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction

DIED = "died"
"""Outcome of a run that recorded no end and holds the lease no more."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run as the ledger has it.

    Attributes:
        run_id: as in its result.
        model: its name.
        started: when it took the lease.
        seconds: how long it took, or takes already.
        outcome: of its result; ``failed`` after an error, ``died`` if it recorded no end; None while it runs.
        exit_code: None while it runs, or if it died.
        counts: its result, or the ``error``.
        settings: those that differ from their defaults, without secrets.
        progress: the state when it last renewed its lease; None before that.
        heartbeat_s: seconds since then.
    """

    run_id: str
    model: str
    started: datetime
    seconds: float
    outcome: str | None
    exit_code: int | None
    counts: Mapping[str, Any]
    settings: Mapping[str, Any]
    progress: Mapping[str, Any] | None
    heartbeat_s: float

    @property
    def rows(self) -> int | None:
        """Rows whose vector it wrote; None while it runs, or if it did not end well."""
        found = self.counts.get("updated")
        return None if found is None else int(found)

    @property
    def rows_per_s(self) -> float | None:
        """Rows per second by its result."""
        found = self.counts.get("rows_per_s")
        return None if found is None else float(found)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        more = {"started": self.started.isoformat(), "rows": self.rows, "rows_per_s": self.rows_per_s}
        return {**asdict(self), **more}


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The run in progress.

    Attributes:
        by: its user, host and process.
        since: when it took the lease.
        run: its record; None if it could write none.
    """

    by: str
    since: datetime
    run: RunRecord | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        run = self.run.as_dict() if self.run else None
        return {"by": self.by, "since": self.since.isoformat(), "run": run}


def recorded_runs(connection: Connection, relation: Relation, most: int) -> tuple[Holder | None, list[RunRecord]]:
    """Returns the run in progress, if any, and the last runs that have ended, the newest first."""
    tracking = relation.ledger
    with transaction(connection, read_only=True) as cursor:
        held = cursor.execute(sql.SQL(_HOLDER).format(tracking.targets), (tracking.id,)).fetchone()
        query = sql.SQL(_RUNS).format(sql.Identifier(tracking.schema, "run"))
        rows = cursor.execute(query, (tracking.id, most + 1)).fetchall()
    own = held[0] if held else None
    runs = {row[0]: _record(row, running=row[0] == own) for row in rows}
    ended = [run for run in runs.values() if run.run_id != own]
    return Holder(by=held[1], since=held[2], run=runs.get(held[0])) if held else None, ended[:most]


def _record(row: tuple[Any, ...], *, running: bool) -> RunRecord:
    fields = dict(zip(RunRecord.__dataclass_fields__, row, strict=True))
    if running:
        fields["seconds"] += fields["heartbeat_s"]
    elif fields["outcome"] is None:
        fields["outcome"] = DIED
    return RunRecord(**{**fields, "counts": fields["counts"] or {}})


_HOLDER = """
SELECT holder, holder_name, held_since FROM {} WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4
  AND held_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
"""

_RUNS = """
SELECT id::pg_catalog.text, model, started,
  (EXTRACT(epoch FROM COALESCE(finished, heartbeat) OPERATOR(pg_catalog.-) started))::pg_catalog.float8,
  outcome, exit_code, counts, settings, progress,
  (EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) heartbeat))::pg_catalog.float8
FROM {} WHERE target OPERATOR(pg_catalog.=) $1::pg_catalog.int4
ORDER BY started DESC, id LIMIT $2::pg_catalog.int8
"""
