"""The survey of a tracked target that writes nothing: it counts what the sweeps of a run together would take."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from vecfill.ledger import queue
from vecfill.postgres.database import Connection
from vecfill.postgres.selection import CHANGED, EMPTIED, MISSED, OTHER_MODEL, OUTDATED, UNKNOWN, Selection
from vecfill.read.survey import Coverage, Survey, survey
from vecfill.read.tracked import TrackedSource, pending, with_failures
from vecfill.read.units import Bucket

_CONCERN_A_RUN = MISSED, CHANGED, OTHER_MODEL, EMPTIED
"""States of queued rows that concern a run; entries of other rows leave the queue."""


def dry_survey(source: TrackedSource) -> Survey:
    """Surveys a tracked target, and leaves its queue as it is.

    A run reads first the tables that no queue covers, then what the queue names; this counts both at once, each row in
    the state in which the run will meet it.

    Raises:
        As ``TableSource.survey``.
    """
    return source.session.run(lambda connection: _survey(connection, source))


def _survey(connection: Connection, source: TrackedSource) -> Survey:
    relation, leaves = source.relation, source.relation.table.leaves
    positions = [position for position, leaf in enumerate(leaves) if leaf.oid in source.to_scan]
    scanned = survey(connection, relation, source.selection, pieces=source.pieces, leaves=positions)
    trees = any(not leaves[position].only for position in positions)
    oids = relation.table.tree if trees else [leaves[position].oid for position in positions]
    named = pending(connection, relation, source.selection, oids)
    found = replace(
        scanned,
        coverage=_with_queued(scanned.coverage, source.selection, states := _states(source, scanned, named)),
        buckets=(*scanned.buckets, *_bucket(connection, source, named)),
        states=states,
    )
    if not scanned.estimates:
        return found
    return with_failures(found, *queue.failures_waiting(connection, relation, source.settling))


def _states(source: TrackedSource, scanned: Survey, named: queue.Pending) -> Counter[str]:
    """Rows by state, of the tables counted as a whole and of the queue."""
    states = Counter(scanned.states) + Counter({state: named.states.get(state, 0) for state in _CONCERN_A_RUN})
    if UNKNOWN not in source.selection.reasons:  # else the scan has counted these as rows to take
        states += Counter(named.noted)
        states[UNKNOWN] -= named.noted.get(CHANGED, 0) + named.noted.get(OUTDATED, 0)
    if source.relation.table.vector.not_null:  # no vector can be cleared
        states[EMPTIED] = 0
    return +states


def _with_queued(counted: Coverage, selection: Selection, states: Counter[str]) -> Coverage:
    missing, changed = states[MISSED], sum(states[reason] for reason in selection.reasons if reason != MISSED)
    filled = counted.filled - (missing - counted.missing)
    return replace(counted, filled=max(0, filled), missing=missing, changed=changed, unknown=states[UNKNOWN])


def _bucket(connection: Connection, source: TrackedSource, named: queue.Pending) -> tuple[Bucket, ...]:
    """The rows that the queue names, as one bucket over all its pages."""
    rows = sum(named.states.get(reason, 0) + named.noted.get(reason, 0) for reason in source.selection.reasons)
    pages, leaf = queue.pages_of(connection, source.relation), len(source.relation.table.leaves) - 1
    return (Bucket(leaf=leaf, first_page=0, pages=max(1, pages), rows=rows, bytes=named.bytes),) if rows else ()
