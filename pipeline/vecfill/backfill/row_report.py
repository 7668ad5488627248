"""The rows that a run did not update, one JSON line each: ``vecfill run --report FILE``."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from vecfill.blocks import UnwrittenRow
from vecfill.errors import ConfigError
from vecfill.folders import temporary

log = logging.getLogger(__name__)

OPEN = ("stale", "locked")
"""Outcomes that the next sweep may change; they count only if no sweep follows."""


class Report:
    """The report file, overwritten at the start, for one target after another. Writes a line once its outcome is final.

    A line has the keys ``target``, ``key`` (as text), ``outcome``, ``error_class`` and ``message``; the last two may be
    null. Of the row's content it has only the key. Rows of a table that was locked as a whole are counted but not
    named: to name them, the run would have to wait for that lock.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            self._file = _File(path)
        except OSError as error:
            raise ConfigError(f"--report {path} cannot be written: {error.strerror}: check the path") from error

    @contextmanager
    def of(self, target: str) -> Iterator[TargetReport]:
        """Yields the report of one target; at the end it writes the rows that stayed open."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", dir=temporary()) as pending:
            try:
                yield TargetReport(target, self._file, pending)
            finally:
                pending.seek(0)
                shutil.copyfileobj(pending, self._file)
                self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class _File:
    """The file of a report. An error, such as a full disk, must not end a run that has committed rows."""

    def __init__(self, path: Path) -> None:
        self._path, self._lost = path, False
        self._stream = path.open("w", encoding="utf-8")

    def write(self, text: str) -> None:
        self._unless_lost(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._unless_lost(self._stream.flush)

    def close(self) -> None:
        self._unless_lost(self._stream.close)

    def _unless_lost(self, work: Callable[[], object]) -> None:
        if self._lost:
            return
        try:
            work()
        except OSError as error:
            self._lost = True
            log.warning("--report %s is incomplete: %s: the result lists the rows too", self._path, error.strerror)
            with suppress(OSError):
                self._stream.close()


class TargetReport:
    """The part of a report that belongs to one target. Open rows wait on disk, as there may be many."""

    def __init__(self, target: str, final: Any, pending: Any) -> None:
        self._target, self._final, self._pending = target, final, pending

    def forget_open(self) -> None:
        """Forgets the open rows: the next sweep reads them again, or another session finished them."""
        self._pending.seek(0)
        self._pending.truncate()

    def add(self, result: pa.Table, quarantine: Mapping[str, UnwrittenRow]) -> None:
        """Adds a WriteResult; ``quarantine`` has the rows that an earlier sweep reported; they may fail again."""
        rows = [row for batch in result["unwritten"].to_pylist() for row in batch]
        before = ((quarantine[row["key"]].outcome if row["key"] in quarantine else None, row) for row in rows)
        final = [row for outcome, row in before if row["outcome"] not in (*OPEN, outcome)]
        self._write(self._final, final)
        self._write(self._pending, (row for row in rows if row["outcome"] in OPEN))

    def _write(self, file: Any, rows: Iterable[dict[str, str | None]]) -> None:
        lines = [json.dumps(self._line(row), ensure_ascii=False) + "\n" for row in rows]
        file.write("".join(lines))
        file.flush()

    def _line(self, row: dict[str, str | None]) -> dict[str, str | None]:
        names = {"key": "key", "outcome": "outcome", "error_class": "error_class", "message": "error"}
        return {"target": self._target, **{name: row[column] for name, column in names.items()}}
