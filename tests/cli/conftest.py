"""The command line in this process."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from vecfill.cli import main


@dataclass(frozen=True)
class Ended:
    """How a call ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; anything beside it is an error."""
        return json.loads(self.out)


@pytest.fixture
def vecfill(monkeypatch, capsys):
    """Calls the entry point with these arguments, and leaves the logger as it was."""
    logger = logging.getLogger("vecfill")
    before = logger.handlers[:], logger.propagate, logger.level

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["vecfill", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        return Ended(code, *capsys.readouterr())

    yield call
    logger.handlers[:], logger.propagate, logger.level = before
