"""Standbys that are behind, and slots that retain WAL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from psycopg import sql

from vecfill.backfill.forecast import size
from vecfill.diagnosis import queries
from vecfill.diagnosis.finding import Finding, advice, ok, problem, unknown
from vecfill.diagnosis.look import Look
from vecfill.postgres.replication import Replication, replication, role_without_replication_stats

LAG_S, LAG_BYTES, KEPT_BYTES = 30.0, 1_000_000_000, 5_000_000_000
OLD_XMIN = 1_000_000
"""Transactions whose dead rows a slot may keep from vacuum."""


def lag(look: Look) -> Iterator[Finding]:
    """How far the slowest standby or subscriber is behind."""
    if look.server.standby:
        yield unknown("replication-lag", "this server is a standby: ask the primary")
    elif role := role_without_replication_stats(look.connection):
        grant = f"GRANT pg_read_all_stats TO {look.role};"
        yield unknown("replication-lag", f"role {role} does not see how far standbys are behind", grant)
    else:
        yield from behind(replication(look.connection), look.run_command("--max-replication-lag", "30s"))


def behind(found: Replication, run: str) -> Iterator[Finding]:
    """Judges the state of replication."""
    if found.replayed is None:
        yield ok("replication-lag", "no standby or subscriber is connected")
        return
    apart = max(0, found.position - found.replayed)
    what = f"the slowest standby or subscriber is {size(apart)} of WAL and {found.lag_s:.1f} s behind"
    if found.lag_s > LAG_S or apart > LAG_BYTES:
        yield advice("replication-lag", f"{what}: a run can wait for it", run)
    else:
        yield ok("replication-lag", what)


def slots(look: Look) -> Iterator[Finding]:
    """What replication slots retain."""
    if look.server.standby:
        yield unknown("replication-slot", "this server is a standby: ask the primary")
    else:
        yield from retained(look.ask(queries.SLOTS))


def retained(rows: Sequence[Any]) -> Iterator[Finding]:
    """Judges slots: those that nobody reads and that hold WAL, or have lost it, or that hold vacuum back."""
    found = False
    for row in rows:
        kept, drop = row.kept or 0, f"SELECT pg_drop_replication_slot({sql.Literal(row.name).as_string()});"
        if row.wal_status in ("lost", "unreserved") or (not row.active and kept > KEPT_BYTES):
            state = "active" if row.active else "not active"
            what = f"slot {row.name} is {state}, retains {size(kept)} of WAL, and its WAL is {row.wal_status}"
            yield problem("replication-slot", f"{what}: reconnect its reader, or drop it", drop)
            found = True
        elif row.xmin_age is not None and row.xmin_age > OLD_XMIN:
            what = f"slot {row.name} keeps vacuum from the dead rows of {row.xmin_age:,} transactions"
            yield problem("replication-slot", f"{what}: its reader is behind, or gone: drop it then", drop)
            found = True
        elif kept > KEPT_BYTES:
            yield advice("replication-slot", f"slot {row.name} retains {size(kept)} of WAL: its reader is behind")
            found = True
    if not found:
        most = size(max((row.kept or 0 for row in rows), default=0))
        yield ok("replication-slot", f"{len(rows)} slots retain at most {most} of WAL" if rows else "no slots")


CHECKS = {"replication-lag": lag, "replication-slot": slots}
