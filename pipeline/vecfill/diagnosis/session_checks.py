"""Other sessions: who holds a lock that keeps a run out, and whose old transaction keeps vacuum from its work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vecfill.backfill.meter import duration
from vecfill.diagnosis import queries
from vecfill.diagnosis.finding import Finding, advice, ok, problem, unknown
from vecfill.diagnosis.look import Examined, Look

IDLE_S, LONG_S = 60.0, 3_600.0
"""Age from which a transaction is old: one that is idle, or prepared, and one at work."""


def table_lock(look: Look) -> Iterator[Finding]:
    """Locks on the table or a partition that conflict with the writes of a run."""
    tables = look.tree if isinstance(look, Examined) else [look.oid]
    yield from strong_locks(look.ask(queries.STRONG_LOCKS, tables))


def strong_locks(rows: Sequence[Any]) -> Iterator[Finding]:
    """Judges locks: held, or awaited, which blocks later requests too."""
    for row in rows:
        verb = "holds" if row.granted else "waits for"
        waits = f"; requests of other sessions that wait: {row.waiting:,}" if row.waiting else ""
        behind = f" behind process {', '.join(map(str, row.blockers))}" if row.blockers else ""
        what = f"{_session(row)} {verb} {row.mode} on the table{behind}{waits}"
        yield problem("table-lock", what, *_ends(row))
    if not rows:
        yield ok("table-lock", "nobody holds or awaits a lock that keeps writers out")


def old_transactions(look: Look) -> Iterator[Finding]:
    """Transactions that have been open for long, idle ones above all."""
    if not look.ask(queries.SEES_SESSIONS)[0].sees:
        grant = f"GRANT pg_read_all_stats TO {look.role};"
        yield unknown("old-transaction", f"role {look.server.role} does not see the sessions of other roles", grant)
        return
    yield from old(look.ask(queries.TRANSACTIONS, look.tree if isinstance(look, Examined) else [look.oid]))


def old(rows: Sequence[Any]) -> Iterator[Finding]:
    """Judges open transactions."""
    found = [row for row in rows if row.seconds > (LONG_S if row.state == "active" else IDLE_S)]
    for row in found:
        effects = [
            *(["holds locks on this table"] if row.ours else []),
            *([f"keeps vacuum from {row.xmin_age:,} transactions' dead rows"] if row.xmin_age is not None else []),
        ]
        what = f"{_session(row)}{': ' if effects else ''}{' and '.join(effects)}"
        yield (problem if effects and row.state != "active" else advice)("old-transaction", what, *_ends(row))
    if not found:
        yield ok("old-transaction", "no transaction has been open for long")


def _session(row: Any) -> str:
    if row.prepared is not None:
        return f"the prepared transaction {row.prepared} of {row.role or 'a role'}"
    who = ", ".join(part for part in (row.role, row.application) if part)
    for_s = f" for {duration(row.seconds)}" if row.seconds is not None else ""
    last = f" ({row.query})" if row.query else ""
    state = f", {row.state}{for_s}" if row.state else ""
    return f"process {row.pid}{f' of {who}' if who else ''}{state}{last}"


def _ends(row: Any) -> tuple[str, ...]:
    """The statements that end it: cancel what works, terminate what is idle."""
    if row.prepared is not None:
        return ("ROLLBACK PREPARED '{}';".format(str(row.prepared).replace("'", "''")),)
    if row.pid is None:
        return ()
    return (f"SELECT pg_{'cancel' if row.state == 'active' else 'terminate'}_backend({row.pid});",)


CHECKS = {"table-lock": table_lock, "old-transaction": old_transactions}
