"""The TOML file of ``--config``: settings at its top, and any number of ``[[target]]`` tables."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from vecfill.errors import ConfigError


def read_file(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the settings at the top of the file, and those of each target.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or writes a target with single brackets.
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
    return values, targets
