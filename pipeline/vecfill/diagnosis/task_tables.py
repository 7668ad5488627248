"""Recognises the application's own queue of tasks for a target, by its name, its status and what it refers to. Pure.

The name must say so: orders, applications or mails refer to a target and have a status too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

STATUSES = ("status", "state", "job_status", "queue_status", "task_status", "embedding_status")
ERRORS = ("error_message", "last_error", "error", "error_text", "failure_reason", "message", "last_error_message")
QUEUED_AT = ("created_at", "enqueued_at", "queued_at", "inserted_at", "scheduled_at", "requested_at")
CLAIMED_AT = ("started_at", "processing_started_at", "claimed_at", "locked_at", "picked_at")
TAKEN_AT = (*CLAIMED_AT, "updated_at", *QUEUED_AT)

WORDS = {
    "pending": {"pending", "queued", "new", "waiting", "ready", "todo", "open", "scheduled", "retry", "created"},
    "taken": {
        "processing",
        "running",
        "in_progress",
        "inprogress",
        "started",
        "claimed",
        "locked",
        "working",
        "active",
    },
    "done": {"completed", "complete", "done", "finished", "succeeded", "success", "processed", "ok", "embedded"},
    "failed": {"failed", "error", "errored", "failure", "dead", "aborted"},
}
"""What a status means, by the words in use."""


@dataclass(frozen=True, kw_only=True)
class TaskTable:
    """A table of tasks, with the names of its columns; None where it has none of that kind.

    Attributes:
        schema, name: of the table.
        refers: its column that names the target's row.
        key: the target's column that it names.
        status: its status.
        error: the text of the last error.
        queued_at, taken_at: when a task was made, and when it was last touched.
    """

    schema: str
    name: str
    refers: str
    key: str
    status: str
    error: str | None
    queued_at: str | None
    taken_at: str | None


def task_table(row: Any, table: str, key: Sequence[str]) -> TaskTable | None:
    """Returns the table of a row of ``queries.CANDIDATE_QUEUES`` as a table of tasks; None if it is none.

    Args:
        row: schema, name, columns, the columns of a time, the columns of a foreign key to the target, if any, those of
            foreign keys to other tables, and whether its schema has another table of the target's name.
        table: name of the target's table.
        key: its key columns.
    """
    columns = set(row.columns or ())
    status = _first(STATUSES, columns) or _first(sorted(one for one in columns if one.endswith("_status")), columns)
    if status is None:
        return None
    refers: str | None = None
    if row.refers:
        refers, referred = row.refers
    elif len(key) == 1 and not row.of_namesake:
        refers, referred = _first(_references(table, key[0]), columns - set(row.elsewhere or ())), key[0]
    if refers is None or not is_queue_of(row.name, table):
        return None
    return TaskTable(
        schema=row.schema,
        name=row.name,
        refers=refers,
        key=referred,
        status=status,
        error=_first(ERRORS, columns),
        queued_at=_first(QUEUED_AT, row.times or ()),
        taken_at=_first(TAKEN_AT, row.times or ()),
    )


def meaning(status: str) -> str | None:
    """Returns which of ``WORDS`` a status is; None if it is none of them."""
    plain = status.strip().lower().replace("-", "_").replace(" ", "_")
    return next((kind for kind, words in WORDS.items() if plain in words), None)


def _references(table: str, key: str) -> list[str]:
    """Names that a column which names a row of the table usually has."""
    return [f"{stem}_{end}" for stem in _stems(table) for end in dict.fromkeys((key, "id"))]


def is_queue_of(name: str, table: str) -> bool:
    """Whether the name of a table tells a queue of embeddings: it says so, or it is the target's or the only queue."""
    lower = name.lower()
    if "embed" in lower or "vector" in lower:
        return True
    rest = re.sub(r"queue|outbox|backlog", "", lower, count=1)
    others = re.sub("|".join(map(re.escape, _stems(table))), "", rest)
    return rest != lower and others.strip("_s") == ""


def _stems(table: str) -> list[str]:
    """The table's name and its singular, the longest first."""
    lower = table.lower()
    return [lower, *([f"{lower[:-3]}y"] if lower.endswith("ies") else []), lower.removesuffix("s")]


def _first(wanted: Iterable[str], among: Iterable[str]) -> str | None:
    there = set(among)
    return next((one for one in wanted if one in there), None)
