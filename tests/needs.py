"""Skipping: a test says here what it needs, so that a run can name what was not tested, and why.

``--no-skips`` (``.ci/run``) fails a run that skipped what this machine could have run.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

NOT_BROUGHT = Path(__file__).parent.parent / ".venv" / "setup-not-brought"
"""Packages that ``scripts/setup`` could not get on this machine, one a line."""

_TOOL, _MACHINE, _APT = "tool: ", "machine: ", ": apt-get install "


def needs(reason: str) -> NoReturn:
    """Skips the test for what no package brings: another server, operating system, user or device."""
    _skip(f"{_MACHINE}{reason}")


def only_with(there: bool, reason: str) -> pytest.MarkDecorator:
    """``needs`` as a mark."""
    return pytest.mark.skipif(not there, reason=f"{_MACHINE}{reason}")


def needs_tool(*programs: str, package: str | None = None) -> str:
    """Path of the first of these programs; the test is skipped where there is none.

    Args:
        programs: names to look for, on PATH and where Debian keeps servers.
        package: Debian's package, which ``scripts/setup`` brings as root; None where it does not.
    """
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    found = next((one for program in programs if (one := shutil.which(program, path=path))), None)
    if found is None:
        lacks_tool(f"{programs[0]} is not installed{f'{_APT}{package}' if package else ''}")
    return found


def lacks_tool(reason: str) -> NoReturn:
    """Skips the test for a tool that ``scripts/setup`` does not bring."""
    _skip(f"{_TOOL}{reason}")


def _skip(reason: str) -> NoReturn:
    raise pytest.skip.Exception(reason, _use_item_location=True)  # else the report would name this line


def missing_tool(report: pytest.TestReport) -> str | None:
    """Which tool a test was skipped for, and how to get it."""
    reason = _reason(report)
    return reason.removeprefix(_TOOL) if reason and reason.startswith(_TOOL) else None


def could_have_run(report: pytest.TestReport) -> str | None:
    """Why a skip is a gap in a run on this machine; None where it is none, or no skip."""
    reason = _reason(report)
    if reason is None or reason.startswith(_MACHINE):
        return None
    if not reason.startswith(_TOOL):
        return f"{reason} (a test skips by tests/needs.py alone)"
    package = reason.rpartition(" ")[2]
    return reason if _APT in reason and _could_be_brought(package) else None


def _reason(report: pytest.TestReport) -> str | None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return None
    return report.longrepr[2].removeprefix("Skipped: ")


def _could_be_brought(package: str) -> bool:
    refused = NOT_BROUGHT.read_text().split() if NOT_BROUGHT.exists() else []
    return os.geteuid() == 0 and _has_apt() and package not in refused


def _has_apt() -> bool:
    return shutil.which("apt-get") is not None
