"""Our own log on stderr: as text for people, as one JSON object per line for machines."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from vecfill.config.output import Output
from vecfill.log_fields import WithFields

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes that every record has; all others come from ``extra``."""


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, every field of ``extra``, and a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line; values without a JSON type are written as text."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """One line per record; it begins with its target where a command works on several at a time."""

    def __init__(self, layout: str, *, with_target: bool) -> None:
        super().__init__(layout)
        self._with_target = with_target

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Returns the line without a traceback."""
        target = getattr(record, "target", None) if self._with_target else None
        line = super().formatMessage(record)
        return line if target is None or target in line else f"{target}: {line}"


def logs_json() -> bool:
    """Whether our own log is written as JSON."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger("vecfill").handlers)


def log_to_stderr(output: Output, *, with_target: bool = False) -> None:
    """Sends our own log to stderr: information and above, with ``quiet`` only errors, with ``verbose`` everything.

    ``with_target`` has each line of text begin with its target.
    """
    handler = logging.StreamHandler()
    text = "%(asctime)s %(levelname)s %(message)s" if output.verbose else "%(message)s"
    handler.setFormatter(
        JsonFormatter() if output.log_format == "json" else TextFormatter(text, with_target=with_target)
    )
    handler.addFilter(WithFields())
    logger = logging.getLogger("vecfill")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.ERROR if output.quiet else logging.DEBUG if output.verbose else logging.INFO)
    # psycopg warns about errors that it ignores while closing a broken connection; our own log line is enough.
    logging.getLogger("psycopg").setLevel(logging.NOTSET if output.verbose else logging.ERROR)
