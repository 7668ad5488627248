"""The log of a Ray worker, which the user sees as the driver's."""

from __future__ import annotations

import logging
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vecfill.engine.coordinator import Coordination


class _ToDriver(QueueHandler):
    """Hands the records, which can then be pickled, to the coordinator."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.tell("say", record)  # type: ignore[attr-defined]


def log_to_driver(coordination: Coordination) -> None:
    """Sends our own log, information and above, to the driver of this worker's run, and nowhere else."""
    logger = logging.getLogger("vecfill")
    logger.handlers[:] = [_ToDriver(coordination)]  # type: ignore[arg-type]  # no queue
    logger.setLevel(logging.INFO)
    logger.propagate = False
