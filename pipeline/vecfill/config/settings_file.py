"""The TOML file of ``--config``: settings at its top, and any number of ``[[target]]`` tables.

A target's settings that begin with ``queue_`` may stand in its table ``[target.queue]``, without that beginning.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from vecfill.errors import ConfigError


def read_file(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the settings at the top of the file, and those of each target.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or writes a target with single brackets, or a queue without.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {file} cannot be read: {error.strerror}: check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {file} is not TOML: {error}: see configs/ for examples") from error
    targets = values.pop("target", [])
    if not isinstance(targets, list) or not all(isinstance(target, dict) for target in targets):
        raise ConfigError(f"--config {file}: write a target as [[target]], with double brackets")
    return _flat(values, file), [_flat(target, file) for target in targets]


def _flat(values: dict[str, Any], file: Path) -> dict[str, Any]:
    """Returns the settings with those of the table ``queue`` among them, as ``queue_…``.

    Raises:
        ConfigError: ``queue`` is no table.
    """
    queue = values.pop("queue", {})
    if not isinstance(queue, dict):
        raise ConfigError(f"--config {file}: write the queue table's settings below [target.queue]")
    return values | {f"queue_{name}": value for name, value in queue.items()}
