"""The ledger of a tracked target against the table: triggers, queue, failures, runs."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from vecfill.backfill.meter import changes_wait, duration
from vecfill.backfill.tracked_checks import check_rights
from vecfill.diagnosis import queries
from vecfill.diagnosis.finding import Finding, advice, ok, problem
from vecfill.diagnosis.look import Examined, grants_in, statement
from vecfill.errors import ConfigError
from vecfill.ledger.models import writers
from vecfill.ledger.queue import Queue, queue_of
from vecfill.ledger.recorded_runs import DIED, RunRecord, recorded_runs
from vecfill.ledger.registry import Tracked
from vecfill.ledger.scanned import triggers_of
from vecfill.ledger.waiting_indexes import still_missing
from vecfill.postgres.relation import Relation
from vecfill.postgres.target_sql import target
from vecfill.postgres.transaction import transaction
from vecfill.wording import count_of

OLD_CHANGE_S = 3_600.0
"""Age of a change in the queue that no schedule of some minutes explains."""


def tracking(look: Examined) -> Iterator[Finding]:
    """Whether the target is tracked, with all triggers, and by one model."""
    tracked = look.tracked
    if look.target.queue.table:
        yield ok("tracking", "not tracked: the queue table names the work")
        return
    if tracked is None:
        track = look.command("track", *(() if look.target.text or look.target.text_sql else ("--text '{TITLE}'",)))
        yield ok("tracking", f"not tracked: a run fills missing vectors and sees no changed text; `{track}` begins it")
        return
    yield ok("tracking", f"tracked in schema {tracked.relation.ledger.schema}")
    yield from _triggers(look, tracked)
    yield from _models(look, tracked)
    if tracked.unknown:
        yield advice(
            "unknown-vectors",
            f"{count_of(tracked.unknown, 'vector', 'is')} of unknown origin: verify a sample, or adopt them",
            look.command("track", "--adopt", "--model", look.model.name if look.model else "MODEL"),
        )


def _triggers(look: Examined, tracked: Tracked) -> Iterator[Finding]:
    if tracked.watched:
        yield ok("tracking-triggers", "all are there and enabled")
        return
    with transaction(look.connection, read_only=True) as cursor:
        found = triggers_of(cursor, tracked.relation, tracked.relation.ledger)
    off = sorted((table, name) for table, _, name, enabled in found if not enabled)
    names = {row.oid: row.name for row in look.ask(queries.TABLE_NAMES, look.tree)}
    enable = (statement("ALTER TABLE {} ENABLE TRIGGER {}", names[table], (name,)) for table, name in off)
    what = f"disabled: {', '.join(sorted({name for _, name in off}))}" if off else "some are missing"
    mend = tuple(enable) if off else (look.command("track"),)
    yield problem(
        "tracking-triggers",
        f"{what}: changes since then are not in the queue; until it is mended each run compares every row",
        *mend,
        look.run_command("--audit"),
    )


def _models(look: Examined, tracked: Tracked) -> Iterator[Finding]:
    made = sorted({name for name, _ in writers(look.connection, tracked.relation, look.target)})
    if len(tracked.models) > 1:
        what = f"{len(tracked.models)} models have made the vectors: {', '.join(made)}"
        yield problem("several-models", what, look.run_command("--select", "all"))
    else:
        yield ok("several-models", f"all known vectors are by {made[0]}" if made else "no vector was made yet")


def rights(look: Examined) -> Iterator[Finding]:
    """The tables of the ledger and this role's rights on them."""
    if look.tracked is None:
        return
    try:
        check_rights(look.connection, look.tracked.relation)
    except ConfigError as error:
        yield problem("ledger", str(error), *grants_in(str(error)))
        return
    yield ok("ledger", "its tables are there, and this role may use them")


def change_queue(look: Examined) -> Iterator[Finding]:
    """The changes that wait for a run."""
    if look.tracked is not None:
        yield from waiting(queue_of(look.connection, look.tracked.relation), look.run_command())


def waiting(found: Queue, run: str) -> Iterator[Finding]:
    """Judges the age of the oldest change."""
    if not found.entries:
        yield ok("change-queue", "no change waits")
        return
    what = changes_wait(found.entries, found.oldest_s)
    if (found.oldest_s or 0.0) > OLD_CHANGE_S:
        yield problem("change-queue", f"{what}: no run has taken them", run)
    else:
        yield ok("change-queue", what)


def failures(look: Examined) -> Iterator[Finding]:
    """The rows that failed, by reason."""
    if look.tracked is None:
        return
    rows = look.ask(_FAILURES.format(failures=look.tracked.relation.ledger.failures))
    if not rows:
        yield ok("failures", "no row has failed")
        return
    what = f"{count_of(sum(row.rows for row in rows), 'row')} failed; {rows[0].rows:,} of them by: {rows[0].message}"
    yield advice("failures", what, look.command("failures"), look.command("retry", "--all"))


_FAILURES = sql.SQL("SELECT message, pg_catalog.count(*) AS rows FROM {failures} GROUP BY 1 ORDER BY 2 DESC")


def runs(look: Examined) -> Iterator[Finding]:
    """The run in progress, and how the last one ended."""
    if look.tracked is None:
        return
    running, ended = recorded_runs(look.connection, look.tracked.relation, 1)
    if running:
        yield ok("lease", f"held by {running.by} since {running.since:%Y-%m-%d %H:%M:%S} UTC")
    elif look.ask(_HELD.format(targets=look.tracked.relation.ledger.targets), look.tracked.relation.ledger.id):
        yield ok("lease", "its holder died, and it has ended: the next run takes over")
    else:
        yield ok("lease", "free")
    yield from last_run(ended[0] if ended else None, look.run_command())


_HELD = sql.SQL("SELECT holder_name FROM {targets} WHERE id OPERATOR(pg_catalog.=) $1 AND holder IS NOT NULL")


def last_run(run: RunRecord | None, again: str) -> Iterator[Finding]:
    """Judges the outcome of the last run."""
    if run is None:
        yield ok("last-run", "no run has ended yet")
        return
    what = f"started {run.started:%Y-%m-%d %H:%M} UTC, took {duration(run.seconds)}: {run.outcome}"
    error = f": {run.counts['error']}" if "error" in run.counts else ""
    if run.outcome == DIED or run.exit_code in (1, 2):
        yield problem("last-run", f"{what}{error}", again)
    elif run.exit_code:
        yield advice("last-run", f"{what} (exit code {run.exit_code}){error}", again)
    else:
        yield ok("last-run", what)


def ledger_rows(look: Examined) -> Iterator[Finding]:
    """Entries of the ledger whose row is gone, though no entry of the queue says that it was deleted."""
    if look.tracked is None:
        return
    relation = look.tracked.relation
    if relation.access.policies:
        return  # a hidden row looks like one that is gone
    condition = _gone(relation)
    (row,) = look.ask(sql.SQL("SELECT pg_catalog.count(*) AS rows FROM {} AS vecfill_v WHERE {}").format(*condition))
    if row.rows:
        remove = sql.SQL("DELETE FROM {} AS vecfill_v WHERE {};").format(*condition).as_string()
        what = f"{count_of(row.rows, 'entry')} of rows that are gone, such as those of a detached partition"
        yield advice("ledger-rows", what, " ".join(remove.split()))
    else:
        yield ok("ledger-rows", "every entry has its row")


def _gone(relation: Relation) -> tuple[sql.Composable, sql.Composable]:
    ledger = relation.ledger
    condition = sql.SQL(
        "NOT EXISTS (SELECT FROM {} WHERE {}) AND NOT EXISTS (SELECT FROM {} AS vecfill_c WHERE {})"
    ).format(
        target(relation),
        ledger.is_row(relation.table.alias, "vecfill_v"),
        ledger.changes,
        ledger.same_key("vecfill_c", "vecfill_v"),
    )
    return ledger.vectors, condition


def waiting_indexes(look: Examined) -> Iterator[Finding]:
    """The vector indexes that a run has dropped."""
    waiting = look.tracked.waiting if look.tracked else ()
    missing = still_missing(look.connection, waiting)
    running = missing and look.tracked and recorded_runs(look.connection, look.tracked.relation, 1)[0]
    for one in missing:
        if running:
            yield ok("index-waiting", f"{one.label} is dropped while {running.by} is at work, and built again after it")
            continue
        parts = [part for part in waiting if part.is_part_of(one)]
        statements = [f"{statement};" for index in (one, *parts) for statement in index.statements]
        what = f"{one.label} is gone: a run dropped it and died before it could build it again; the next run does"
        yield problem("index-waiting", what, look.run_command(), *statements)


CHECKS = {
    "tracking": tracking,
    "index-waiting": waiting_indexes,
    "ledger": rights,
    "change-queue": change_queue,
    "failures": failures,
    "lease": runs,
    "ledger-rows": ledger_rows,
}
