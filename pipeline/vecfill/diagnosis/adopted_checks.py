"""The queue table that the target's settings name, from which runs take their work."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from vecfill.backfill.meter import duration
from vecfill.diagnosis import queries
from vecfill.diagnosis.finding import Finding, advice, ok, problem
from vecfill.diagnosis.look import Examined, grants_in
from vecfill.diagnosis.task_checks import Tasks, failing, tasks_of
from vecfill.diagnosis.task_tables import TaskTable
from vecfill.errors import ConfigError
from vecfill.postgres.queue_introspect import check_queue_table, with_queue_table
from vecfill.postgres.queue_table import QueueTable
from vecfill.postgres.selection import selection_of
from vecfill.read.queue_findings import QueueFindings, queue_findings
from vecfill.wording import count_of


def adopted_table(look: Examined) -> TaskTable | None:
    """Returns the queue table of the settings, in the form of a table of tasks; None without one."""
    queue = look.target.queue
    if queue.table is None or not look.relation.table.key:
        return None
    found = with_queue_table(look.connection, look.relation, look.target).queue_table
    (table,) = look.ask(queries.IDENTITY, queue.table)
    return TaskTable(
        schema=table.schema,
        name=table.name,
        refers=found.key[0].name,
        key=found.key[0].target,
        status=found.status,
        error=found.error,
        queued_at=None,
        taken_at=queue.claimed,
    )


def read_adopted(look: Examined, table: TaskTable) -> Tasks:
    """Reads its statuses and errors, by the words of the settings."""
    queue = look.target.queue
    words = {queue.pending: "pending", queue.processing: "taken", queue.done: "done", queue.failed: "failed"}
    return tasks_of(look, table, words)


def adopted(look: Examined, tasks: Tasks) -> Iterator[Finding]:
    """Judges the queue table, by what a run and ``status`` see in it.

    Raises:
        ConfigError: the table does not fit the settings.
    """
    relation = with_queue_table(look.connection, look.relation, look.target)
    try:
        check_queue_table(look.connection, relation)
    except ConfigError as error:
        yield problem("privileges", str(error), *grants_in(str(error)))
    found = queue_findings(look.connection, relation, selection_of(look.target))
    yield ok("queue-table", f"{found.table}: {', '.join(f'{n:,} {status}' for status, n in found.statuses.items())}")
    retry = look.command("retry", "--all")
    problems = list(failing(tasks, retry))
    yield from problems
    if not problems and (failed := tasks.count("failed")):
        what = f"{found.table}: entries that failed: {failed:,}; a run leaves them alone until they are put back"
        yield advice("queue-failing", what, retry)
    yield from left(look, found)
    if not found.indexed:
        what = f"no index finds the entries of a key in {found.table}: each batch reads the whole table"
        yield advice("queue-table", what, _index(relation.queue_table))


def left(look: Examined, found: QueueFindings) -> Iterator[Finding]:
    """Judges entries that are stuck, and rows that no open entry names."""
    if found.stuck:
        age = f", the oldest claim is {duration(found.oldest_claim_s)} old" if found.oldest_claim_s else ""
        what = f"{found.table}: {count_of(found.stuck, 'entry', 'is')} stuck{age}; the next run embeds the rows"
        yield problem("queue-stuck", what, look.run_command())
    if found.lost:
        what = f"{found.table}: {count_of(found.lost, 'row', 'has')} no vector and only done entries"
        yield problem("queue-without-vector", what, look.command("retry", "--lost"), look.run_command())
    if found.unnamed:
        what = f"{found.table}: {count_of(found.unnamed, 'row', 'has')} no vector and no entry"
        yield advice("queue-without-vector", what, look.run_command("--queue-rest"))


def _index(queue: QueueTable) -> str:
    key = sql.SQL(", ").join(sql.Identifier(part.name) for part in queue.key)
    return sql.SQL("CREATE INDEX CONCURRENTLY ON {} ({});").format(queue.name, key).as_string()
