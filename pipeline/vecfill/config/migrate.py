"""How a target moves to another model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vecfill.config.spec import Spec, option, spec


@spec
class MigrateOptions(Spec):
    """The new column of ``migrate start``."""

    to_column: str | None = option(
        "Column to add for the new vectors.", default=None, unset="--column with _next", metavar="NAME"
    )
    to_type: Literal["vector", "halfvec"] | None = option(
        "Type of the new column.", default=None, unset="the type of --column"
    )


@spec
class LockOptions(Spec):
    """How a migration, or a run that drops indexes, takes the locks that keep others from the table."""

    lock_timeout: float = option(
        "Wait at most X seconds for the lock of the table; other sessions queue meanwhile.", default=0.5, gt=0, le=60
    )
    lock_wait: float = option(
        "Try again to lock the table for X seconds, with pauses in which nobody queues.", default=600.0, ge=0
    )


@spec
class IndexOptions(Spec):
    """How a migration or a run builds indexes."""

    index_memory: str | None = option(
        "Memory for building an index, such as 2GB.",
        default=None,
        unset="maintenance_work_mem of the server",
        metavar="SIZE",
    )
    index_workers: int | None = option(
        "Parallel workers for building an index.",
        default=None,
        unset="max_parallel_maintenance_workers of the server",
        ge=0,
        le=1_024,
    )


@spec
class SwapOptions(Spec):
    """How a migration cuts over by exchanging the names of the two columns."""

    after: Path | None = option("Wait until FILE exists.", default=None, metavar="FILE")
    max_queued: int = option("Exchange although up to N changes are queued; the next run embeds them.", default=0, ge=0)
    views: Literal["refuse", "recreate"] = option(
        "Refuse if views use the column, or drop and recreate them with owner, grants and comment.", default="refuse"
    )
    refresh: bool = option("Before a rollback, embed with the old model what changed since the swap.", default=False)
