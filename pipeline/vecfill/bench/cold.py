"""From nothing to the last row, process start included: what a cron job with a few hundred rows pays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vecfill.bench.measure import Measured
from vecfill.config.model import Model
from vecfill.config.options import ENV_PREFIX
from vecfill.encode.model_location import locate_model
from vecfill.errors import VecfillError
from vecfill.job import Job

SCRIPT = """
import json, sys
from sentence_transformers import SentenceTransformer
texts = json.load(open(sys.argv[2], encoding="utf-8"))
SentenceTransformer(sys.argv[1], model_kwargs={"dtype": "float32"}).encode(texts)
"""
"""What somebody writes who has the texts in a file and wants their vectors: no database, no check, nothing kept."""


@dataclass(kw_only=True)
class Script:
    """The bare script, in a Python of its own."""

    model: Model
    texts: tuple[str, ...]
    _folder: Any = field(default=None, repr=False)

    def prepare(self) -> dict[str, Any]:
        """Puts the texts into a file."""
        self._folder = tempfile.TemporaryDirectory(prefix="vecfill-bench-")
        self._file.write_text(json.dumps(self.texts), encoding="utf-8")
        return {"dtype": "float32"}

    def measure(self) -> Measured:
        """Runs it."""
        return _timed(["-c", SCRIPT, locate_model(self.model), str(self._file)], {}, len(self.texts))

    def close(self) -> None:
        """Removes the file."""
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def _file(self) -> Path:
        return Path(self._folder.name, "texts.json")


@dataclass(kw_only=True)
class Command:
    """``vecfill run`` in-process, PostgreSQL to PostgreSQL, as a cron job calls it."""

    job: Job
    rows: int

    def prepare(self) -> dict[str, Any]:
        """Nothing: all of it is what is measured."""
        return {"dtype": "float32"}

    def measure(self) -> Measured:
        """Runs it; the database goes by the environment, since a process list would show a password."""
        model, table = self.job.encode.model, self.job.relation.table.label
        flags = ["--table", table, "--text", "text", "--model", model.name, "--dtype", "float32", "--no-dedupe"]
        settings = {f"{ENV_PREFIX}DATABASE": self.job.database.conninfo}
        return _timed(["-m", "vecfill", "run", *flags, "--engine", "inline", "--quiet"], settings, self.rows)

    def close(self) -> None:
        """Nothing is held."""


def _timed(arguments: Sequence[str], settings: Mapping[str, str], rows: int) -> Measured:
    """Runs Python to its end.

    Raises:
        VecfillError: it failed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603 -- our own arguments
        [sys.executable, *arguments], env={**environment, **settings}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise VecfillError(f"it ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
    return Measured(seconds=seconds, marks=((seconds, rows),), stages={"all": seconds})
