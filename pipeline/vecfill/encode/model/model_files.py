"""Reads a model's dimension from its JSON files in a folder, the hub's cache or the hub.

SentenceTransformer writes these files: ``modules.json`` lists the modules in order, each module's folder holds its
``config.json``. Reading them takes milliseconds; loading the model takes seconds and torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vecfill.config.model import Model
from vecfill.encode.model.model_location import hash_dimension, locate_model
from vecfill.encode.proxies import check_proxies
from vecfill.errors import ConfigError
from vecfill.folders import expanded

ReadJson = Callable[[str], Any]
"""Returns a model's JSON file by its relative path, parsed, or None if the model has no such file."""

LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Flags of models saved before sentence-transformers 6, in the order of the results; mean pooling where all are off."""

HUB_S = 5.0
"""Seconds that the hub may take to answer."""

_CACHE_REMEDY = "set HF_HOME to a folder that can be written"

_KEEPS_WIDTH = frozenset({"Normalize", "Dropout", "LayerNorm"})
_COMPOSITE = ("projection_dim", "embedding_dim", "text_config", "vision_config")
"""Keys of transformers configurations whose sentence vectors are not simply ``hidden_size`` long."""


def dimension_of(model: Model) -> int | None:
    """Returns the length of the model's vectors by its files, or None where only loading can tell.

    Of a hub model only these small JSON files are fetched, unless they are cached. An API is not asked: only
    ``truncate_dim`` is known of it.

    Raises:
        ConfigError: as ``locate_model``; the model does not exist, is no embedder, or cannot be reached; truncate_dim
            is larger than the vectors are.
    """
    if model.is_api:
        return model.truncate_dim
    width, default = hash_dimension(model), None
    if width is None:
        width, default = declared_dimension(model.name, reader(locate_model(model), model.revision))
    if width is None:
        return None
    if model.truncate_dim is not None and model.truncate_dim > width:
        raise ConfigError(
            f"--truncate-dim is {model.truncate_dim} but model {model.name} gives only {width} dimensions: "
            f"lower it to at most {width} or leave it out"
        )
    return min(width, model.truncate_dim or default or width)


def declared_dimension(name: str, read: ReadJson) -> tuple[int | None, int | None]:
    """Returns what a model's files declare: the full length of its vectors, and the default ``truncate_dim``.

    The length is None if only loading the model can tell, ``truncate_dim`` if there is none.

    Args:
        name: the model's name, for messages.
        read: reads the model's files.

    Raises:
        ConfigError: the files do not belong to an embedder.
    """
    modules = read("modules.json")
    if modules is None:
        return _bare_dimension(name, read), None
    settings = read("config_sentence_transformers.json") or {}
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise ConfigError(f"model {name} is a {kind}, which gives no vector a text: choose a SentenceTransformer model")
    return _chain_dimension(modules, read), settings.get("truncate_dim")


def reader(location: str, revision: str | None) -> ReadJson:
    """Returns a function that reads the JSON files of a model: an absolute folder, or a hub id at a revision."""

    def read(file: str) -> Any:
        path = fetched(location, file, revision)
        return _parse(path) if path is not None and path.is_file() else None

    return read


def fetched(location: str, file: str, revision: str | None = None) -> Path | None:
    """Returns the path of a model's file, fetched from the hub if needed; None if a hub model has no such file."""
    folder = Path(location)
    return folder / file if folder.is_absolute() else _hub_file(location, file, revision)


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read ({exc.strerror}): correct its mode") from exc
    except ValueError as exc:
        raise ConfigError(f"{path} is not valid JSON ({exc}): fetch or save the model again") from exc


def _bare_dimension(name: str, read: ReadJson) -> int | None:
    """Returns the width of a plain transformers model, to which SentenceTransformer adds mean pooling."""
    config = read("config.json")
    if config is None:
        if read("adapter_config.json") is None:
            raise ConfigError(f"model {name} holds no embedder: it has neither modules.json nor config.json")
        return None
    width = config.get("dim" if config.get("model_type") == "distilbert" else "hidden_size")
    return width if isinstance(width, int) and not any(key in config for key in _COMPOSITE) else None


def _chain_dimension(modules: list[Mapping[str, str]], read: ReadJson) -> int | None:
    """Follows the vector's width through the modules; None after a module whose output only loading can tell."""
    width: int | None = None
    for module in modules:
        origin, _, kind = module["type"].rpartition(".")
        if not origin.startswith("sentence_transformers."):
            return None
        config = read(f"{module['path']}/config.json") if kind in {"Pooling", "Dense"} else None
        if config is not None:
            width = _pooled(config) if kind == "Pooling" else _projected(config, width)
        elif kind not in _KEEPS_WIDTH and kind != "Transformer":
            return None
    return width


def _pooled(config: Mapping[str, Any]) -> int | None:
    """Returns the width after pooling: several modes are concatenated."""
    width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
    modes = config.get("pooling_mode")
    if modes is None:
        count = sum(bool(config.get(flag)) for flag in LEGACY_POOLING) or 1
    else:
        count = 1 if isinstance(modes, str) else len(modes)
    return width * count if isinstance(width, int) else None


def _projected(config: Mapping[str, Any], width: int | None) -> int | None:
    """Returns the width after a Dense module, which may also work on the tokens before pooling."""
    output = config.get("module_output_name") or config.get("module_input_name", "sentence_embedding")
    return config.get("out_features") if output == "sentence_embedding" else width


def _hub_file(name: str, file: str, revision: str | None) -> Path | None:
    """Returns a file of a hub model, from the cache if it is there, or None if the model lacks it.

    Tries a name without an owner as ``sentence-transformers/NAME`` first, as SentenceTransformer does.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    names = [name] if "/" in name else [f"sentence-transformers/{name}", name]
    for repository in names[:-1]:
        try:
            return _fetch(repository, file, revision)
        except ConfigError as exc:
            if not isinstance(exc.__cause__, RepositoryNotFoundError):
                raise
    return _fetch(names[-1], file, revision)


def _fetch(repository: str, file: str, revision: str | None) -> Path | None:
    """Asks the cache before the hub, and first checks that the hub answers: its client takes 23 s to give up."""
    from huggingface_hub import (
        constants,
        errors,
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )

    cache = expanded(os.environ.get("SENTENCE_TRANSFORMERS_HOME") or constants.HF_HUB_CACHE, _CACHE_REMEDY)
    try:
        cached = try_to_load_from_cache(repository, file, cache_dir=cache, revision=revision)
        if cached is not None:
            return Path(cached) if isinstance(cached, str) else None
        check_proxies()
        get_hf_file_metadata(hf_hub_url(repository, file, revision=revision), timeout=HUB_S, retry_on_errors=False)
        return Path(hf_hub_download(repository, file, cache_dir=cache, revision=revision))
    except errors.LocalEntryNotFoundError as exc:
        raise ConfigError(_unreachable(repository)) from exc
    except errors.EntryNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        if isinstance(exc, OSError) and exc.errno is not None:  # of a file
            raise ConfigError(f"the hub's cache cannot keep model {repository} ({exc}): {_CACHE_REMEDY}") from exc
        raise ConfigError(_refusal(repository, revision, exc)) from exc
    except Exception as exc:
        if not type(exc).__module__.startswith("httpx"):  # the hub's HTTP client, named by version
            raise
        raise ConfigError(_unreachable(repository)) from exc


def _unreachable(repository: str) -> str:
    return (
        f"model {repository} is not in the local cache and the hub cannot be reached: connect once to fetch it, or "
        "give a folder or package:NAME/folder"
    )


def _refusal(repository: str, revision: str | None, exc: Exception) -> str:
    """Explains why the hub gave no file; the gated case comes first, as its class derives from the missing one."""
    from huggingface_hub import errors

    if isinstance(exc, errors.OfflineModeIsEnabled):
        return _unreachable(repository)
    if isinstance(exc, errors.HFValidationError):
        return f"model {repository!r} is neither a folder nor a hub id: write OWNER/NAME, a path or package:NAME/folder"
    if isinstance(exc, errors.GatedRepoError):
        return f"model {repository} is gated on the hub: accept its terms there and log in with `hf auth login`"
    if isinstance(exc, errors.RepositoryNotFoundError):
        return f"model {repository} does not exist on the hub, or is private: check the name, or `hf auth login`"
    if isinstance(exc, errors.RevisionNotFoundError):
        return f"model {repository} has no revision {revision} on the hub: check model.revision"
    return f"the hub did not give model {repository}: {type(exc).__name__}: {exc}"
