"""An existing queue table of the target, which names the rows to embed."""

from __future__ import annotations

from typing import Any, Literal

from vecfill.config.spec import Spec, option, spec
from vecfill.errors import ConfigError

DELETE = "delete"
"""Value of ``done``: an entry is deleted when its row has its vector."""


def _value(description: str, default: str, name: str) -> Any:
    """Declares a value of the status column, which may be a number."""
    return option(description, default=default, name=name, metavar="VALUE", blank=True, coerce_numbers_to_str=True)


@spec
class QueueOptions(Spec):
    """A table of the application's own whose entries name rows to embed, and their status.

    Columns are spelled as in the catalogue, and the optional ones are left alone unless they are named here.

    Attributes:
        table: in SQL notation; None if the target has no queue table.
        key: columns that hold the target's key, in its order; empty for those of a foreign key, or of the same names.
        only: ``column=value`` of the entries that are this target's, where several tables share the queue.
        status: the column of the four values below, of any type that can hold them.
        pending, processing, done, failed: what the status column says; ``done`` may be ``delete``.
        claimed: when an entry was taken; without it, nothing tells which entries were abandoned.
        finished: when an entry was done or failed.
        attempts: how often its row failed.
        error: why its row failed.
        order: columns that say which entries to take first, each with an optional ``DESC``.
        stuck_minutes: processing entries that were claimed earlier are taken again.
        filled: what to do with an entry whose row has a vector.
        rest: also fill the rows without a vector that no open entry names.
    """

    table: str | None = option(
        "Take the work from this queue table of yours, whose entries name rows by key.",
        default=None,
        name="queue_table",
        metavar="NAME",
    )
    key: tuple[str, ...] = option(
        "Column of the queue table that holds the target's key; repeat it for a composite key, in the key's order.",
        default=(),
        name="queue_key",
        unset="those of its foreign key, or of the same names",
        metavar="NAME",
    )
    only: tuple[str, ...] = option(
        "Take only entries with this value in this column of the queue table, such as 'kind=job'; repeatable.",
        default=(),
        name="queue_only",
        metavar="NAME=VALUE",
    )
    status: str = option(
        "Column of the queue table that holds an entry's status.",
        default="status",
        name="queue_status",
        metavar="NAME",
    )
    pending: str = _value("Status of an entry that waits.", "pending", "queue_pending")
    processing: str = _value("Status of an entry that a worker has claimed.", "processing", "queue_processing")
    done: str = _value(
        "Status of an entry whose row has its vector; 'delete' deletes the entry instead.", "completed", "queue_done"
    )
    failed: str = _value("Status of an entry whose row failed or was refused.", "failed", "queue_failed")
    claimed: str | None = option(
        "Timestamp column of the queue table to set when an entry is claimed; tells which entries are stuck.",
        default=None,
        name="queue_claimed",
        metavar="NAME",
    )
    finished: str | None = option(
        "Timestamp column of the queue table to set when an entry is done or failed.",
        default=None,
        name="queue_finished",
        metavar="NAME",
    )
    attempts: str | None = option(
        "Integer column of the queue table to increment when a row fails.",
        default=None,
        name="queue_attempts",
        metavar="NAME",
    )
    error: str | None = option(
        "Text column of the queue table for the reason of a failure.",
        default=None,
        name="queue_error",
        metavar="NAME",
    )
    order: tuple[str, ...] = option(
        "Take entries in the order of this column of the queue table, such as 'priority DESC'; repeatable.",
        default=(),
        name="queue_order",
        metavar="NAME",
    )
    stuck_minutes: float = option(
        "Take an entry again that has been processing for X minutes; 0 takes every one (no other worker is alive).",
        default=30.0,
        name="queue_stuck_minutes",
        ge=0,
        le=525_600,
        allow_inf_nan=False,
    )
    filled: Literal["embed", "done"] = option(
        "An entry whose row already has a vector: embed its text again, or count the entry as done.",
        default="embed",
        name="queue_filled",
    )
    rest: bool = option(
        "After the queue, also fill rows without a vector that no open entry names.",
        default=False,
        name="queue_rest",
    )

    def __post_init__(self) -> None:
        named = ("key", "only", "claimed", "finished", "attempts", "error", "order", "rest")
        if self.table is None and (without := [name for name in named if getattr(self, name)]):
            raise ConfigError(f"--queue-{without[0]} needs --queue-table: name the table that holds the queue")
        values = {name: getattr(self, name) for name in ("pending", "processing", "done", "failed")}
        for name, value in values.items():
            same = [other for other in values if other < name and values[other] == value]
            if same:
                raise ConfigError(
                    f"--queue-{name} {value!r} is also --queue-{same[0]}: each status needs a value of its own"
                )
