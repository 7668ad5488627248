"""The log of a Ray worker."""

from __future__ import annotations

import logging


def log_to_stderr() -> None:
    """Sends our own warnings to the worker's stderr, which Ray keeps in a file and shows with ``--verbose``.

    As a library, vecfill prints no log: the command line sets up the log of its own process, and this function that of
    a worker.
    """
    logger = logging.getLogger("vecfill")
    if all(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.StreamHandler())
