"""Reads the replication lag of the standbys and the WAL that replication slots retain: writes increase both."""

from __future__ import annotations

from dataclasses import dataclass

from vecfill.postgres.database import Connection
from vecfill.postgres.transaction import transaction


@dataclass(frozen=True, kw_only=True)
class Replication:
    """The state of replication.

    Attributes:
        position: end of the WAL, in bytes.
        replayed: WAL position, in bytes, of the slowest connected standby or subscriber; None if none is visible.
        lag_s: longest replay lag that the server measured, in seconds. It does not grow while a replay is paused.
        kept_bytes: WAL that the slot furthest behind retains; 0 without slots.
        slot: name of that slot.
    """

    position: int
    replayed: int | None
    lag_s: float
    kept_bytes: int
    slot: str | None


_REPLICATION = """
SELECT pg_catalog.pg_wal_lsn_diff(here.lsn, '0/0')::pg_catalog.int8,
       (SELECT pg_catalog.min(pg_catalog.pg_wal_lsn_diff(r.replay_lsn, '0/0'))::pg_catalog.int8 FROM standbys AS r),
       (SELECT COALESCE(pg_catalog.max(EXTRACT(epoch FROM r.replay_lag)), 0)::pg_catalog.float8 FROM standbys AS r),
       COALESCE(slot.kept, 0)::pg_catalog.int8, slot.slot_name::pg_catalog.text
FROM (SELECT pg_catalog.pg_current_wal_lsn() AS lsn) AS here
LEFT JOIN LATERAL (
  SELECT s.slot_name, pg_catalog.pg_wal_lsn_diff(here.lsn, s.restart_lsn) AS kept
  FROM pg_catalog.pg_replication_slots AS s WHERE s.restart_lsn IS NOT NULL ORDER BY 2 DESC LIMIT 1) AS slot ON true
"""
_STANDBYS = "WITH standbys AS (SELECT replay_lsn, replay_lag FROM pg_catalog.pg_stat_replication)"

_MAY_SEE = "SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'), CURRENT_USER::pg_catalog.text"


def replication(connection: Connection) -> Replication:
    """Queries the server; takes about a millisecond."""
    with transaction(connection, read_only=True, first=f"{_STANDBYS} {_REPLICATION}".encode()) as cursor:
        row = cursor.fetchone()
    position, replayed, lag_s, kept, slot = row or (0, None, 0.0, 0, None)
    return Replication(position=position, replayed=replayed, lag_s=lag_s, kept_bytes=kept, slot=slot)


def role_without_replication_stats(connection: Connection) -> str | None:
    """Returns the role's name if it may not see the replication lag: the server hides the figures of each standby."""
    with transaction(connection, read_only=True, first=_MAY_SEE) as cursor:
        may_see, role = cursor.fetchone() or (True, "")
    return None if may_see else role
