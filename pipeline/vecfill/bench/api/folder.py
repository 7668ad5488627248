"""The report's folder: ``api.html``, ``api.md``, ``api.json``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from vecfill.bench.api import plots_measured, plots_modelled
from vecfill.bench.api.markdown import markdown
from vecfill.bench.api.page import page
from vecfill.bench.api.words import Report
from vecfill.errors import ConfigError


def check_folder(folder: Path) -> None:
    """Finds a folder that cannot be written before anything is paid for.

    Raises:
        ConfigError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(folder, error) from error


def _refused(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(f"--report {folder} cannot be written: {error.strerror}: name another folder")


def write_report(report: Report, folder: Path) -> list[Path]:
    """Writes the report three times over; returns the files.

    Raises:
        ConfigError: the folder cannot be written.
    """
    plots = [*plots_measured.plots(report), *plots_modelled.plots(report)]
    contents = {
        "api.json": json.dumps(report, indent=2, allow_nan=False),
        "api.md": markdown(report),
        "api.html": page(report, plots),
    }
    try:
        for name, content in contents.items():
            (folder / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise _refused(folder, error) from error
    return [folder / name for name in contents]
