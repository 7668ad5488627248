"""Facts that cost time to find, as JSON files in the user's cache folder. Imports no torch.

Facts count for the conditions under which they were found, such as a model's files, a device and the versions of
libraries: whatever differs has another file.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vecfill.folders import cache, replace_file

_log = logging.getLogger(__name__)


class Remembered:
    """What is known under certain conditions.

    Attributes:
        folder: of the files; None if this user has no home folder.
    """

    def __init__(self, kind: str, conditions: Mapping[str, Any]) -> None:
        """Takes the folder's name and the conditions, plain values."""
        folder = cache()
        self.folder = folder / kind if folder else None
        self._conditions = dict(conditions)

    def read(self) -> dict[str, Any] | None:
        """Returns the facts; None if there are none, or if the file does not hold what was saved."""
        if self.folder is None:
            return None
        try:
            found: dict[str, Any] = json.loads(self._place(self.folder).read_text(encoding="utf-8"))
            whole = found.pop("digest") == _digest(found)
            return found if found.pop("conditions") == self._conditions and whole else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            _log.debug("nothing is remembered: %s", error)
            return None

    def save(self, facts: Mapping[str, Any]) -> None:
        """Remembers the facts; several processes may do so at once.

        Raises:
            OSError: the cache folder cannot be written.
        """
        if self.folder is not None:
            known = {**facts, "conditions": self._conditions}
            replace_file(self._place(self.folder), json.dumps({**known, "digest": _digest(known)}, indent=1))

    @property
    def place(self) -> Path | None:
        """The file of these facts; None if this user has no home folder."""
        return self._place(self.folder) if self.folder else None

    def _place(self, folder: Path) -> Path:
        return folder / f"{_digest(self._conditions)[:32]}.json"


def _digest(values: Mapping[str, Any]) -> str:
    return digest_of(json.dumps(values, sort_keys=True))


def digest_of(text: str) -> str:
    """Returns the SHA-256 of a text in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def code_of(*folders: Path) -> str:
    """Returns a digest of the Python files in some folders."""
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    return digest_of("".join(file.read_text(encoding="utf-8") for file in files))[:16]


@functools.cache
def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """Returns the versions of libraries, empty for one that is not installed."""
    found = {}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found
