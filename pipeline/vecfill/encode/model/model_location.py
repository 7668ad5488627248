"""Where a model is: in a folder, inside an installed package, on the hub or behind an API. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from vecfill.config.model import HASH_PREFIX, Model
from vecfill.encode.api.terms import check_api, resolved
from vecfill.errors import ConfigError
from vecfill.folders import expanded

MAX_SALT = 16
_PACKAGE = "package:"
_MARKERS = ("modules.json", "config.json", "adapter_config.json")
"""One of these lies in every folder that SentenceTransformer can load."""


def locate_model(model: Model) -> str:
    """Returns the absolute folder of the model; or its name, where it is not in a folder.

    Raises:
        ConfigError: the name is empty or malformed, the package is not installed, or the folder is missing or holds no
            embedder; an API has no key, or a cost limit without a price.
    """
    name = model.name
    if model.is_api:
        check_api(model)
        return name
    if not name.strip():
        raise ConfigError("model name is empty: give a hub id, a folder, package:NAME/folder, openai:NAME or hash:DIM")
    if hash_dimension(model) is not None:
        return name
    if name.startswith(_PACKAGE):
        return _embedder_folder(name, _package_folder(name))
    folder = expanded(name, "give --model a path without ~")
    if os.access(folder, os.F_OK, effective_ids=True) or name.startswith(("/", ".", "~")) or name.count("/") > 1:
        return _embedder_folder(name, folder)
    return name


def is_local(model: Model) -> bool:
    """Whether the model's files are surely on this machine, so that no network is needed to read them."""
    return Path(locate_model(model)).is_absolute() or model.name.startswith(HASH_PREFIX)


def portable(model: Model) -> Model:
    """Returns the same model under a name that a worker in another folder, or on another machine, finds.

    Raises:
        ConfigError: as ``locate_model``.
    """
    if model.name.startswith(_PACKAGE):
        return model
    location = locate_model(model)
    return replace(model, name=location, api=resolved(model)) if model.is_api else replace(model, name=location)


def hash_dimension(model: Model) -> int | None:
    """Returns the dimension of a stand-in, ``hash:DIM`` or ``hash:DIM:SALT``; None for any other model.

    Raises:
        ConfigError: DIM is not a positive number; SALT is too long.
    """
    if not model.name.startswith(HASH_PREFIX):
        return None
    digits = model.name.removeprefix(HASH_PREFIX).partition(":")[0]
    if len(hash_salt(model)) > MAX_SALT:
        raise ConfigError(f"model {model.name!r}: what follows the dimension has at most {MAX_SALT} bytes")
    if not (digits.isascii() and digits.isdigit() and int(digits) > 0):
        raise ConfigError(f"model {model.name!r} has no dimension: write a positive number, such as hash:384")
    return int(digits)


def hash_salt(model: Model) -> bytes:
    """Returns what tells stand-ins of one dimension apart; empty for ``hash:DIM``."""
    return model.name.removeprefix(HASH_PREFIX).partition(":")[2].encode()


def _package_folder(name: str) -> Path:
    """Finds the folder of ``package:NAME/sub/folder`` without importing the package."""
    package, _, sub = name.removeprefix(_PACKAGE).partition("/")
    if not package.isidentifier():
        raise ConfigError(f"model {name!r} names no package: write package:NAME/sub/folder")
    found = find_spec(package)
    roots = found.submodule_search_locations if found is not None else None
    if not roots:
        raise ConfigError(f"model {name}: package {package} is not installed: install it beside vecfill")
    return next((Path(root, sub) for root in roots if Path(root, sub).is_dir()), Path(roots[0], sub))


def _embedder_folder(name: str, folder: Path) -> str:
    """Returns the folder's absolute path, after checking that it holds something that SentenceTransformer can load."""
    if not os.access(folder, os.R_OK | os.X_OK, effective_ids=True) or not folder.is_dir():
        raise ConfigError(
            f"model {name}: there is no folder {folder} that this user can read: correct the path or the mode, or give "
            "a hub id"
        )
    if not any((folder / marker).is_file() for marker in _MARKERS):
        raise ConfigError(
            f"model {name}: folder {folder} holds no embedder ({' or '.join(_MARKERS[:2])} is missing): give the "
            "folder that SentenceTransformer.save wrote"
        )
    return str(folder.resolve())
