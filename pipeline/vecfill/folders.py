"""Folders of this user: in a container it may have no home, and no folder that it can write."""

from __future__ import annotations

import os
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


def cache() -> Path | None:
    """Returns the folder for what can be made again, which may not exist yet; None if this user has no home folder."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vecfill"
    except RuntimeError:
        return None


def replace_file(place: Path, text: str) -> None:
    """Writes a file in one step: who reads it meanwhile sees the old text or the new one.

    Raises:
        OSError: the file or its folder cannot be written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(part).replace(place)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
