"""The log of a Ray worker, which the user sees as the driver's."""

from __future__ import annotations

import logging
from logging.handlers import QueueHandler
from typing import Any


class _ToDriver(QueueHandler):
    """Hands the records, which can then be pickled, to the coordinator."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.say.remote(record)  # type: ignore[attr-defined]  # an actor


def log_to_driver(coordinator: Any) -> None:
    """Sends our own log, information and above, to the driver of this worker's run, and nowhere else."""
    logger = logging.getLogger("vecfill")
    logger.handlers[:] = [_ToDriver(coordinator)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
