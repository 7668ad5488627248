"""The target as a Ray Data source: one read task a page range, one block a read task."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from vecfill.engine.worker_log import log_to_stderr
from vecfill.job import Job
from vecfill.postgres.session import Database
from vecfill.postgres.target import Relation
from vecfill.read.reader import Read
from vecfill.read.units import PageRange


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

        log_to_stderr()
        with _to_its_end(), closing(Read(database, relation)) as reader:
            return [reader.nothing() if ray.get(flag.is_set.remote()) else reader(pages)]

    return read


@contextmanager
def _to_its_end() -> Iterator[None]:
    """Lets a read, which takes a second, end by itself where Ray cancels it: a failed run has others under way.

    The cancel is a KeyboardInterrupt. Between connecting and noting the connection it would leave one open for as long
    as the worker lives (seen).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
