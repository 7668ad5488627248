"""The target as a Ray Data source: one read task a page range, one block a read task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from vecfill.engine.job import Job
from vecfill.postgres.session import Database
from vecfill.postgres.target import Relation
from vecfill.read.ranges import PageRange
from vecfill.read.reader import Read


class TargetDatasource(Datasource):  # type: ignore[misc]  # Ray is not typed
    """Reads the eligible rows of a target. ``ray.data.read_sql`` cannot shard on PostgreSQL.

    Ray replays a read whose block was lost, and ours drops rows that were written meanwhile: so each task gives
    exactly one block, possibly empty, whatever it finds. A replay with another number of blocks would hang the run.
    """

    def __init__(self, job: Job, ranges: Sequence[PageRange], flag: Any) -> None:
        super().__init__()
        self._job, self._ranges, self._flag = job, ranges, flag

    def get_name(self) -> str:
        """Name in Ray's plan."""
        return "Target"

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown: Ray then cuts nothing."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """One task a range; Ray calls this several times, so it does nothing else."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ReadTask(_reader(self._job.database, self._job.relation, pages, self._flag), unknown)
            for pages in self._ranges
        ]


def _reader(database: Database, relation: Relation, pages: PageRange, flag: Any) -> Any:
    """Takes no more than it needs: every task carries its own copy of what it closes over."""

    def read() -> Iterable[pa.Table]:
        import ray

        with closing(Read(database, relation)) as reader:
            return [reader.nothing() if ray.get(flag.is_set.remote()) else reader(pages)]

    return read
