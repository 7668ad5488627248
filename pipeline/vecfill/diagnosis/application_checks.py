"""What the application does about its vectors: its tasks, and statements of its own that cannot succeed.

A statement that fails leaves no row behind, and pg_stat_statements counts only what succeeds. Its traces are the error
texts that a worker keeps in its queue, the log of pg_cron, and the statement itself where the database holds it: in a
function or in a job of pg_cron.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from vecfill.diagnosis import queries
from vecfill.diagnosis.adopted_checks import adopted, adopted_table, read_adopted
from vecfill.diagnosis.commands import run_command
from vecfill.diagnosis.finding import Finding, ok, problem
from vecfill.diagnosis.look import Examined, made, statement
from vecfill.diagnosis.recorded_statements import recorded_statements
from vecfill.diagnosis.task_checks import STUCK_S, Tasks, as_queue, judged, task_tables, tasks_of
from vecfill.diagnosis.task_tables import TaskTable
from vecfill.diagnosis.upserts import Table, is_not_null_fault, missing_columns, without_detail
from vecfill.wording import count_of


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement that leaves out required columns: where it is, and which."""

    place: str
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """An error text that says that a required column had no value: where it is, how often, and what it says."""

    place: str
    entries: int
    error: str


def application(look: Examined) -> Iterator[Finding]:
    """Looks at the application's tasks, and for the statement that makes them fail."""
    tasks: list[Tasks] = []
    own = adopted_table(look)

    def judge(look: Examined, table: TaskTable) -> Iterable[Finding]:
        tasks.append(found := read_adopted(look, table) if table == own else tasks_of(look, table))
        return adopted(look, found) if table == own else judged(found)

    others = [one for one in task_tables(look) if own is None or (one.schema, one.name) != (own.schema, own.name)]
    for one in [*([own] if own else []), *others]:
        yield from made("queue-table", functools.partial(judge, table=one), look)
    yield from made("upsert-without-columns", lambda look: _upserts(look, tasks), look)


def _upserts(look: Examined, tasks: Sequence[Tasks]) -> Iterator[Finding]:
    key = {part.name for part in look.relation.table.key}  # which every upsert gives
    required = tuple(row.name for row in look.ask(queries.REQUIRED_COLUMNS, look.oid) if row.name not in key)
    if required:
        table = Table(schema=look.schema, name=look.table, embedding=look.relation.table.vector.name, required=required)
        traces = [*_traces(look, tasks), *_cron_traces(look)]
        filling = [row.name for row in look.ask(queries.TRIGGERS_BEFORE_INSERT, look.tree)]
        statements = [] if filling else list(_statements(look, table))  # such a trigger may fill the columns
        yield from upserts(look, table, statements, traces, tasks)


def _statements(look: Examined, table: Table) -> Iterator[Statement]:
    """Looks through functions, jobs of pg_cron, and statements that were planned and never succeeded."""
    sources = look.ask(queries.FUNCTIONS, look.table, look.target.state_schema)
    if look.ask(queries.HAS_CRON)[0].jobs:
        sources = [*sources, *_permitted(look, queries.CRON_JOBS)]
    for one in sources:
        for columns in missing_columns(one.source, table):
            yield Statement(place=one.name, columns=columns)
    for recorded in recorded_statements(look, r"insert\s+into"):
        if not recorded.calls:
            for columns in missing_columns(recorded.query, table):
                yield Statement(place="a statement in pg_stat_statements that never succeeded", columns=columns)


def _traces(look: Examined, tasks: Sequence[Tasks]) -> Iterator[Trace]:
    tables = [look.table] if len(look.tree) == 1 else []  # an error names the partition
    for one in tasks:
        for row in one.errors:
            if is_not_null_fault(row.error, tables):
                yield Trace(place=one.label, entries=row.entries, error=without_detail(row.error))


def _cron_traces(look: Examined) -> Iterator[Trace]:
    if look.ask(queries.HAS_CRON)[0].runs:
        for row in _permitted(look, queries.CRON_ERRORS, look.table):
            if is_not_null_fault(row.error):
                yield Trace(place="cron.job_run_details", entries=row.entries, error=without_detail(row.error))


def _permitted(look: Examined, query: str, *parameters: str) -> list[Any]:
    try:
        return look.ask(query.encode(), *parameters)
    except psycopg.errors.InsufficientPrivilege:  # pg_cron's tables are its owner's
        return []


def upserts(
    look: Examined, table: Table, statements: Sequence[Statement], traces: Sequence[Trace], tasks: Sequence[Tasks]
) -> Iterator[Finding]:
    """Names the fault, by what shows it best: the statement, an error text, or tasks that only fail or stay."""
    seen = [*_by_statement(statements), *_by_trace(traces)] or list(_by_silence(tasks))
    if not seen:
        yield ok(_FAULT, "no function, job or error text shows one")
        return
    absent = ", ".join(dict.fromkeys(column for one in statements for column in one.columns)) or ", ".join(
        table.required
    )
    suspected = "" if statements or traces else "suspected: "
    yield problem(
        _FAULT,
        f"{suspected}vectors of {look.label} are stored by INSERT … ON CONFLICT without {absent} (NOT NULL, no "
        f"default): {'; '.join(seen)}",
        *_mend(look, tasks),
    )


_FAULT = "upsert-without-columns"

LATE_S = 86_400.0
"""Seconds that a task waits where whatever takes it has stopped."""


def _by_statement(statements: Sequence[Statement]) -> Iterator[str]:
    yield from (f"{one.place} does" for one in statements)


def _by_trace(traces: Sequence[Trace]) -> Iterator[str]:
    yield from (f"{one.place} has {count_of(one.entries, 'time')} the error: {one.error}" for one in traces)


def _by_silence(tasks: Sequence[Tasks]) -> Iterator[str]:
    """Yields tasks that have ended or stay without a vector, while others wait for long or none has ever had one."""
    for one in tasks:
        waits = max((row.queued_s or 0.0 for row in one.of("pending")), default=0.0) > LATE_S
        signs = {
            "failed": one.count("failed"),
            "stay in progress": sum(row.entries for row in one.of("taken") if (row.taken_s or 0.0) > STUCK_S),
            "are done although their row has no vector": one.without_vector,
        }
        if any(signs.values()) and not one.errors and (waits or one.count("done") <= one.without_vector):
            seen = " and ".join(f"{count:,} {what}" for what, count in signs.items() if count)
            yield f"of the entries of {one.label} {seen}, and no error text says why; the server's log does"


def _mend(look: Examined, tasks: Sequence[Tasks]) -> tuple[str, ...]:
    """The statement that works in place of the upsert, and the run that drains the queue and fills what is missing."""
    names = [sql.Identifier(part.name).as_string() for part in look.relation.table.key]
    keys = " AND ".join(f"{name} = ${number}" for number, name in enumerate(names, 2))
    update = statement("UPDATE {} SET {} = $1 WHERE {}", look.name, look.column, keys or "… = $2")
    run = look.run_command()
    if tasks and look.target.queue.table is None:
        drained = replace(look.target, queue=as_queue(tasks[0]))
        run = run_command(drained, look.model, "--queue-rest")
    return (f"{update} -- in place of the INSERT", run)


CHECKS = {"queue-table": application}
