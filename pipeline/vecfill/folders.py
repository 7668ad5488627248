"""Folders of this user: in a container it may have no home, and no folder that it can write."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vecfill.errors import ConfigError


def expanded(path: str | Path, remedy: str) -> Path:
    """Returns the path with the home folder in place of its ``~``.

    Raises:
        ConfigError: there is no such home; HOME is not set, and the user has no entry in ``/etc/passwd``.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: there is no such home folder: {remedy}") from error


def temporary() -> str:
    """Returns the folder for temporary files.

    Raises:
        ConfigError: none can be written.
    """
    try:
        return tempfile.gettempdir()
    except OSError as error:
        raise ConfigError(f"{error.strerror}: set TMPDIR to a folder that can be written") from error
