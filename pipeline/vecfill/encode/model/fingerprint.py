"""The fingerprint of a model: all that changes a vector and that the hash of its text does not show. Imports no torch.

The type of the computation is not part of it: float32, bfloat16 and float16 give the same vectors for all purposes, as
``precision`` checks, so that a fill on a GPU and a cron job on a CPU are one model.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecfill.config.api import fields_in
from vecfill.config.model import Model
from vecfill.encode.model.model_files import fetched
from vecfill.encode.model.model_location import hash_dimension, locate_model
from vecfill.encode.model.prompts import prompt_of_queries, prompt_of_rows
from vecfill.errors import ConfigError
from vecfill.folders import cache, replace_file

_NOT_COMPUTED_WITH = {"onnx", "openvino", "README.md", ".gitattributes", ".git", ".cache"}
"""Files and folders in a model's folder that a run does not read."""

_CHUNK = 1 << 20

_SETTLED_NS = 2_000_000_000
"""Age of a file whose digest is remembered: a later change within the same tick of the clock would not show."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """A model's identity.

    Attributes:
        name: the model's name as the user gives it.
        details: what the identity consists of; plain values.
        query_prompt: what goes before a query, by the model's files; no part of the identity of stored vectors.
    """

    name: str
    details: dict[str, Any]
    query_prompt: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the details, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.details, sort_keys=True).encode()).hexdigest()

    @property
    def recorded(self) -> dict[str, Any]:
        """What the ledger keeps: the details, and what goes before a query."""
        return self.details | ({"query_prompt": self.query_prompt} if self.query_prompt else {})


def same_space(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a query and rows may be compared, by the details of their models: what a query may differ in aside."""
    free = ("prompt", "fields", "max_tokens", "query_prompt", "long", "overlap")
    return {k: v for k, v in one.items() if k not in free} == {k: v for k, v in other.items() if k not in free}


def fingerprint_of(model: Model) -> Fingerprint:
    """Returns the fingerprint of a model with its settings, from its files; loads nothing.

    Raises:
        ConfigError: the model does not exist or cannot be reached; it has no prompt of the given name.
    """
    details = _api(model) if model.is_api else _local(model)
    settings = {"truncate_dim": model.truncate_dim, "max_tokens": model.max_tokens}
    details |= {name: value for name, value in settings.items() if value is not None}
    if model.long != "truncate":
        details |= {"long": model.long, "overlap": model.overlap}
    return Fingerprint(name=model.name, details=details, query_prompt=prompt_of_queries(model))


def _api(model: Model) -> dict[str, Any]:
    fields = sorted((name, str(value)) for name, value in fields_in(model.api.fields).items())
    return {"api": model.api.url or "https://api.openai.com/v1", "model": model.api_name, "fields": fields}


def _local(model: Model) -> dict[str, Any]:
    if hash_dimension(model) is not None:
        return {"model": model.name}
    prompt = prompt_of_rows(model)
    return files_of(model) | ({"prompt": prompt} if prompt else {})


def files_of(model: Model) -> dict[str, Any]:
    """Returns what identifies the files of a local model: their content, or the hub's commit.

    Raises:
        ConfigError: as ``fingerprint_of``.
    """
    location = locate_model(model)
    if Path(location).is_absolute():
        return _folder(Path(location), code=model.trust_remote_code)
    return _hub(location, model.revision)


def _hub(name: str, revision: str | None) -> dict[str, Any]:
    """The hub's commit, which the path of a file in its cache contains."""
    path = fetched(name, "config.json", revision) or fetched(name, "modules.json", revision)
    parts = path.parts if path else ()
    commit = parts[parts.index("snapshots") + 1] if "snapshots" in parts else revision
    return {"hub": name, "commit": commit}


def _folder(folder: Path, *, code: bool) -> dict[str, Any]:
    """The content of the folder's files; each is read again only when its size or a time of it has changed.

    The model's own ``code`` counts where it is run.
    """
    known = _Known.load()
    try:
        files = {str(path.relative_to(folder)): known.digest(path) for path in _files(folder, code=code)}
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read ({error.strerror}): correct its mode") from error
    known.save()
    return {"files": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()}


def _files(folder: Path, *, code: bool) -> Iterator[Path]:
    passed_over = (".pyc", ".md") if code else (".py", ".pyc", ".md")
    for path in sorted(folder.iterdir()):
        if path.name in _NOT_COMPUTED_WITH or path.name == "__pycache__":
            continue
        if path.is_dir():
            yield from _files(path, code=code)
        elif path.is_file() and path.suffix not in passed_over:
            yield path


class _Known:
    """Digests of files seen before, kept in the user's cache folder if that can be written."""

    def __init__(self, place: Path | None) -> None:
        self._place, self._new = place, False
        self._digests: dict[str, Any] = _read(place) if place else {}

    @classmethod
    def load(cls) -> _Known:
        folder = cache()
        return cls(folder / "files.json" if folder else None)

    def digest(self, path: Path) -> str:
        """Returns the SHA-256 of a file's content."""
        state, known = _state(path), self._digests.get(str(path))
        if isinstance(known, list) and known[:-1] == state:
            return str(known[-1])
        found = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
        if time.time_ns() - max(state[1:]) > _SETTLED_NS:
            self._digests[str(path)], self._new = [*state, found.hexdigest()], True
        return found.hexdigest()

    def save(self) -> None:
        """Writes the digests; another process may replace them, which costs a repetition."""
        if not self._new or self._place is None:
            return
        with suppress(OSError):
            replace_file(self._place, json.dumps(self._digests))


def _read(place: Path) -> dict[str, Any]:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _state(path: Path) -> list[int]:
    """Size, and when the content and the file last changed: setting the first time back changes the second."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
