"""What an update of a row sets off: triggers, publications, and what the server does for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg

from vecfill.backfill.meter import duration
from vecfill.diagnosis import queries
from vecfill.diagnosis.finding import Finding, advice, ok, problem, unknown
from vecfill.diagnosis.index_checks import for_vectors
from vecfill.diagnosis.look import Examined, statement
from vecfill.diagnosis.table_checks import coverage_of
from vecfill.errors import Fault, classify
from vecfill.indexing.update_cost import Measured, measured
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.update_effects import update_effects, written_columns
from vecfill.wording import count_of

SLOW_MS = 1.0
"""Milliseconds per row from which the indexes are worth a word; without them an update takes 0.02 to 0.1."""

LONG_S = 600.0
"""Seconds of work that the missing rows mean from which the advice is to fill before indexing."""

SHOWN_INDEXES = 5
"""Indexes that are named, the dearest first."""

ENABLED = {"O": "enabled", "D": "disabled", "R": "enabled for replication only", "A": "always enabled"}


def triggers(look: Examined) -> Iterator[Finding]:
    """The triggers that the UPDATE of a run fires."""
    if not look.relation.table.triggers:
        yield ok("triggers", "an update fires no trigger")
        return
    query = queries.TRIGGERS_ON_UPDATE
    yield from fired(look.ask(query.encode(), look.tree, written_columns(look.relation)))


def fired(rows: Sequence[Any]) -> Iterator[Finding]:
    """Lists triggers: name, function, state."""
    for one in rows:
        yield ok("triggers", f"{one.name} calls {one.function}, {ENABLED.get(one.enabled, one.enabled)}")
    if not rows:
        yield ok("triggers", "an update of the vector fires no trigger of yours")


def publications(look: Examined) -> Iterator[Finding]:
    """The publications that replicate the vectors."""
    found = update_effects(look.connection, look.relation).publications
    names = ", ".join(found)
    yield ok("publications", f"each update is replicated by {names}" if found else "no publication replicates updates")


def update_cost(look: Examined) -> Iterator[Finding]:
    """Measures the update of a few rows, in a transaction that is rolled back."""
    server = look.server
    if not look.measure:
        return
    if server.standby or server.read_only:
        yield unknown("update-cost", "not measured: the server or this role is read-only")
        return
    try:
        found = measured(look.connection, look.relation)
    except psycopg.Error as error:
        if classify(error.sqlstate) is not Fault.ROW or isinstance(error, psycopg.errors.InsufficientPrivilege):
            raise
        yield advice("update-refused", f"the server refused random vectors for some rows: {server_message(error)}")
        return
    if found is None:
        yield unknown("update-cost", "not measured: no row to try it on, or no dimension is known")
    else:
        yield from _judged(look, found)


def _judged(look: Examined, found: Measured) -> Iterator[Finding]:
    yield from refused(found)
    if not found.updated:
        return
    indexes = for_vectors(look)
    share = {name: ms for name, ms in found.triggers.items() if ms >= SLOW_MS / 10}
    of_triggers = "".join(f", {ms:.2f} ms of it for trigger {name}" for name, ms in share.items())
    rows = count_of(found.updated, "row")
    what = f"{found.ms:.2f} ms per row{of_triggers}{of_indexes(found.blocks)} ({rows}, rolled back)"
    if indexes and found.ms >= SLOW_MS:
        names = ", ".join(f"{one.name} ({one.method})" for one in indexes)
        missing = coverage_of(look).missing
        seconds = missing * found.ms / 1000
        what += f", with the vector index {names}: {missing:,} missing rows mean {duration(seconds)} of it"
        if seconds >= LONG_S:
            drop = [statement("DROP INDEX CONCURRENTLY {}", one.name) for one in indexes]
            made = [f"{one.definition.replace('CREATE INDEX', 'CREATE INDEX CONCURRENTLY', 1)};" for one in indexes]
            yield advice("update-cost", f"{what}; fill first, then build", *drop, look.run_command(), *made)
            return
    yield ok("update-cost", what)


def of_indexes(blocks: Mapping[str, float]) -> str:
    """Says which index costs the update how much, in blocks: the server times no index apart."""
    total = sum(blocks.values())
    if not total:
        return ", no index to update" if blocks else ""
    dear = sorted(((count, name) for name, count in blocks.items()), reverse=True)[:SHOWN_INDEXES]
    shares = ", ".join(f"{name} {count:,.0f} ({count / total:.0%})" for count, name in dear)
    return f", {total:,.0f} blocks of its indexes: {shares}"


def refused(found: Measured) -> Iterator[Finding]:
    """Judges rows that were not updated, or do not hold what was written."""
    if found.kept == found.rows:
        yield ok("update-refused", f"{count_of(found.rows, 'row')} took the vectors that were written")
        return
    parts = [
        *([f"{found.rows - found.updated} were not updated"] if found.updated < found.rows else []),
        *([f"{found.updated - found.kept} hold another vector than was written"] if found.kept < found.updated else []),
    ]
    yield problem(
        "update-refused",
        f"of {count_of(found.rows, 'row')} on trial, {' and '.join(parts)}: look at the BEFORE UPDATE triggers and "
        "rules",
    )


CHECKS = {"triggers": triggers, "publications": publications, "update-cost": update_cost}
