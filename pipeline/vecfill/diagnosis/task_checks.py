"""The application's own tables of tasks: those that fail, that are stuck, or that count as done without a vector."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg import sql

from vecfill.backfill.meter import duration
from vecfill.config.queue_options import QueueOptions
from vecfill.diagnosis import queries
from vecfill.diagnosis.finding import Finding, ok, problem
from vecfill.diagnosis.look import Examined
from vecfill.diagnosis.task_tables import CLAIMED_AT, TaskTable, meaning, task_table
from vecfill.diagnosis.upserts import without_detail
from vecfill.postgres.selection import selection_of
from vecfill.postgres.target_sql import column, target
from vecfill.wording import count_of

MOST_TABLES = 5
STUCK_S = 1_800.0
"""Seconds after which a task in progress counts as stuck; a batch takes one or two."""

FAILING_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """What a table of tasks holds.

    Attributes:
        table: where they are.
        name: of that table in SQL.
        rows: status, entries, and age in seconds of the oldest, by when it was queued and when it was last touched.
        errors: the most frequent error texts and their entries.
        without_vector: entries that are done although their row has no vector.
        again: the statement that puts these back.
        words: what statuses mean, where the target's settings say so.
    """

    table: TaskTable
    name: str
    rows: Sequence[Any]
    errors: Sequence[Any]
    without_vector: int
    again: str = ""
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The table's name for people."""
        return f"{self.table.schema}.{self.table.name}"

    def of(self, kind: str) -> list[Any]:
        """The rows whose status means this."""
        return [row for row in self.rows if (self.words.get(row.status) or meaning(row.status or "")) == kind]

    def count(self, kind: str) -> int:
        """Entries whose status means this."""
        return sum(row.entries for row in self.of(kind))

    def statuses(self, kind: str) -> str:
        """The values of the status that mean this, as a list in SQL."""
        return ", ".join(sql.Literal(row.status).as_string() for row in self.of(kind))

    @property
    def waiting_status(self) -> str:
        """The value of a task that waits, in SQL."""
        return sql.Literal(next((row.status for row in self.of("pending")), "pending")).as_string()


def task_tables(look: Examined) -> list[TaskTable]:
    """Returns the tables of tasks for this target."""
    key = [part.name for part in look.relation.table.key]
    rows = look.ask(queries.CANDIDATE_QUEUES, look.oid, look.target.state_schema)
    found = (task_table(row, look.table, key) for row in rows)
    return [one for one in found if one][:MOST_TABLES]


def tasks_of(look: Examined, one: TaskTable, words: Mapping[str, str] | None = None) -> Tasks:
    """Reads the counts of a table of tasks; ``words`` are what statuses mean by the target's settings."""
    name = sql.Identifier(one.schema, one.name)
    status, refers = sql.Identifier("vecfill_q", one.status), sql.Identifier("vecfill_q", one.refers)
    rows = look.ask(
        sql.SQL(_STATUSES).format(name=name, status=status, queued=_age(one.queued_at), taken=_age(one.taken_at))
    )
    errors: Sequence[Any] = ()
    if one.error:
        errors = look.ask(sql.SQL(_ERRORS).format(name=name, error=sql.Identifier("vecfill_q", one.error)))
    found = Tasks(table=one, name=name.as_string(), rows=rows, errors=errors, without_vector=0, words=words or {})
    done = [row.status for row in found.of("done")]
    if not done or words:
        return found
    parts = {
        "name": name,
        "target": target(look.relation),
        "same": sql.SQL("{}::pg_catalog.text = {}::pg_catalog.text").format(column(look.relation, one.key), refers),
        "status": status,
        "missing": selection_of(look.target).missing(look.relation),
        "blank": look.relation.user_sql.blank if look.target.text or look.target.text_sql else sql.SQL("false"),
    }
    (row,) = look.ask(sql.SQL(_WITHOUT).format(**parts, done=sql.SQL("$1::pg_catalog.text[]")), done)
    again = sql.SQL(_AGAIN).format(
        **parts,
        own=sql.Identifier(one.status),
        waits=sql.SQL(found.waiting_status),
        done=sql.SQL("ARRAY[{}]").format(sql.SQL(found.statuses("done"))),
    )
    return replace(found, without_vector=row.entries, again=again.as_string())


def _age(name: str | None) -> sql.Composable:
    if name is None:
        return sql.SQL("NULL::pg_catalog.float8")
    return sql.SQL(
        "EXTRACT(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min({})::pg_catalog.timestamptz)"
        "::pg_catalog.float8"
    ).format(sql.Identifier("vecfill_q", name))


_STATUSES = """
SELECT {status}::pg_catalog.text AS status, pg_catalog.count(*) AS entries, {queued} AS queued_s, {taken} AS taken_s
FROM {name} AS vecfill_q GROUP BY 1 ORDER BY 2 DESC LIMIT 30
"""

_ERRORS = """
SELECT pg_catalog.left({error}::pg_catalog.text, 200) AS error, pg_catalog.count(*) AS entries
FROM {name} AS vecfill_q WHERE {error}::pg_catalog.text <> '' GROUP BY 1 ORDER BY 2 DESC LIMIT 5
"""

_WITHOUT = """
SELECT pg_catalog.count(*) AS entries FROM {name} AS vecfill_q JOIN {target} ON {same}
WHERE {status}::pg_catalog.text = ANY ({done}) AND {missing} AND NOT {blank}
"""

_AGAIN = """
UPDATE {name} AS vecfill_q SET {own} = {waits} FROM {target}
WHERE {same} AND {status}::pg_catalog.text = ANY ({done}) AND {missing};
"""


def judged(found: Tasks) -> Iterator[Finding]:
    """Judges the tasks of one table."""
    counts = ", ".join(f"{row.entries:,} {row.status}" for row in found.rows) or "no entries"
    oldest = max((row.queued_s for row in found.of("pending") if row.queued_s is not None), default=None)
    waits = f"; the oldest that waits is {duration(oldest)} old" if oldest is not None else ""
    yield ok("queue-table", f"{found.label}: {counts}{waits}")
    yield from failing(found)
    yield from stuck(found)
    if found.without_vector:
        yield problem(
            "queue-without-vector",
            f"{found.label}: {count_of(found.without_vector, 'entry', 'counts')} as done for a row without a vector",
            " ".join(found.again.split()),
        )


def failing(found: Tasks, *mend: str) -> Iterator[Finding]:
    """Tasks of which most fail; ``mend`` in place of the statement that puts them back."""
    failed, done = found.count("failed"), found.count("done")
    if not failed or failed < FAILING_SHARE * (failed + done):
        return
    most = found.errors[0] if found.errors else None
    error = f"; the most frequent error, {count_of(most.entries, 'time')}: {without_detail(most.error)}" if most else ""
    yield problem(
        "queue-failing",
        f"{found.label}: {failed:,} of {count_of(failed + done, 'finished entry')} failed{error}",
        *(mend or [_put_back(found, found.statuses("failed"))]),
    )


def stuck(found: Tasks) -> Iterator[Finding]:
    """Tasks that somebody took long ago."""
    old = [row for row in found.of("taken") if row.taken_s is not None and row.taken_s > STUCK_S]
    for row in old:
        since = sql.Identifier(found.table.taken_at or "").as_string()
        yield problem(
            "queue-stuck",
            f"{found.label}: of {count_of(row.entries, 'entry')} in status {row.status}, the oldest is so for "
            f"{duration(row.taken_s)}: its worker is gone",
            _put_back(found, sql.Literal(row.status).as_string(), f" AND {since} < now() - interval '30 minutes'"),
        )


def as_queue(found: Tasks) -> QueueOptions:
    """Returns the table as a queue table of the target's settings, from which a run takes its work."""
    table = found.table
    words = {"pending": "pending", "processing": "taken", "done": "done", "failed": "failed"}
    seen = {name: rows[0].status for name, kind in words.items() if (rows := found.of(kind))}
    plain = all(re.fullmatch(r"[a-z_][a-z0-9_]*", part) for part in (table.schema, table.name))
    return QueueOptions(
        table=found.label if plain else found.name,
        key=(table.refers,),
        status=table.status,
        claimed=table.taken_at if table.taken_at in CLAIMED_AT else None,
        error=table.error,
        **seen,
    )


def _put_back(found: Tasks, statuses: str, more: str = "") -> str:
    status = sql.Identifier(found.table.status).as_string()
    return f"UPDATE {found.name} SET {status} = {found.waiting_status} WHERE {status} IN ({statuses}){more};"  # noqa: S608 -- for people
