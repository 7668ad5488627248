"""What a run does with vector indexes around its rows: drops them if it is to, and builds again what waits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from vecfill.backfill.prepared import Prepared
from vecfill.backfill.work import Work
from vecfill.config.migrate import IndexOptions, LockOptions
from vecfill.engine.inline import InlineEngine
from vecfill.engine.signals import exit_code
from vecfill.errors import LeaseError, VecfillError
from vecfill.indexing.build import check_settings
from vecfill.indexing.dropping import drop_indexes
from vecfill.indexing.rebuilding import RebuiltIndex, rebuild_indexes, waiting_results
from vecfill.job import Engine, Stop
from vecfill.ledger.lease import LOST
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.index_sql import SavedIndex

log = logging.getLogger(__name__)


class IndexCare:
    """The vector indexes of one run.

    Attributes:
        rebuilt: what became of those that waited, at the end.
    """

    def __init__(self, work: Work, prepared: Prepared, options: IndexOptions, locks: LockOptions, stop: Stop) -> None:
        self.rebuilt: tuple[RebuiltIndex, ...] = ()
        self._work, self._prepared, self._stop = work, prepared, stop
        self._options, self._locks = options, locks
        self._waiting = list[SavedIndex](prepared.tracked.waiting if prepared.tracked else ())

    def drop(self, engine: Engine) -> None:
        """Drops the indexes that the run is to do without, once the model of this process is loaded and checked.

        Raises:
            ConfigError: the model or a setting of the build cannot work; nothing was changed.
            TableLockedError, LeaseError: nothing was changed.
        """
        if self._prepared.to_drop:
            self._work.session.run(lambda connection: check_settings(connection, self._options))
            if isinstance(engine, InlineEngine):
                engine.encode.warm()
            self._waiting += drop_indexes(
                *(self._work.session, self._prepared.relation), self._prepared.to_drop, self._locks
            )

    def build(self) -> None:
        """Builds what waits; a signal leaves it to the next run, ``--max-seconds`` does not."""
        if not self._waiting:
            return
        if self._ended():
            self.rebuilt = waiting_results(self._waiting, f"the run was stopped by {self._stop.reason}")
            return
        self.rebuilt = rebuild_indexes(
            *(self._work.session.database, self._prepared.relation),
            options=self._options,
            locks=self._locks,
            stopped=self._ended,
        )

    def build_after(self, error: BaseException) -> None:
        """Builds what waits although the run failed, unless another run has the target now."""
        if isinstance(error, LeaseError) or not self._waiting:
            return
        try:
            self.build()
        except (VecfillError, psycopg.Error) as fault:
            waiting_results(self._waiting, server_message(fault))

    def _ended(self) -> bool:
        return exit_code(self._stop.reason) is not None or self._stop.reason == LOST


@contextmanager
def indexes_kept(
    work: Work, prepared: Prepared, options: IndexOptions, locks: LockOptions, stop: Stop
) -> Iterator[IndexCare]:
    """Sees to it that no index stays dropped after the body, whether it succeeds or fails.

    Only a stop, a fault of the build or the end of the process leave one to the next run, which finds it in the ledger.
    """
    care = IndexCare(work, prepared, options, locks, stop)
    try:
        yield care
    except Exception as error:
        care.build_after(error)
        raise
    care.build()
