"""The model as it is configured: a light, picklable name for the heavy thing, and what its files say about it.

Nothing here imports torch, sentence-transformers or transformers: the command line checks a model's dimension
against the column before any of them is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vecfill.encode.api.api_options import PREFIX as _API
from vecfill.encode.api.api_options import ApiOptions, refuse_local_settings
from vecfill.encode.encoder import Encoder
from vecfill.encode.model_files import declared_dimension, reader
from vecfill.errors import ConfigError

if TYPE_CHECKING:
    from vecfill.encode.api.budget import Budget

DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cuda", "cpu")

LOCAL_CALLS, API_CALLS = 2, 8
"""Blocks in an encoder at a time. A local model tokenizes one while it computes another; more would only hold memory.
An API's requests wait for a network; eight blocks of 2,048 vectors of 3,072 dimensions are 200 MB."""

BLOCK_ROWS = 512
"""Rows that a block has at least, but for small tables."""

_HASH = "hash:"
_PACKAGE = "package:"
_MARKERS = ("modules.json", "config.json", "adapter_config.json")
"""One of these lies in every folder that SentenceTransformer can load."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which model makes the vectors, and how; everything means what it means to ``SentenceTransformer``.

    Attributes:
        name: a hub id, a folder, ``package:NAME/sub/folder`` (weights inside an installed package) or ``hash:DIM``
            (vectors without a model and without meaning, see ``standin``); ``openai:NAME`` is an API's model.
        revision: branch, tag or commit on the hub.
        prompt: text put before every text.
        prompt_name: the same, by its name in the model's own list; only one of the two.
        truncate_dim: keeps the first components only, for models trained for it (Matryoshka); an API does it itself.
        max_tokens: cuts texts at another length than the model's default.
        dtype: that the transformer computes in: ``float32``, ``bfloat16``, ``float16``; ``auto`` is bfloat16 where the
            device is fast at it and the vectors agree with float32's, and float32 elsewhere.
        device: ``cuda``, ``cpu``; ``auto`` takes CUDA where there is one.
        trust_remote_code: runs Python code that comes with the model. Off, as the code is a stranger's.
        api: how an API is asked, for ``openai:NAME`` alone.

    Raises:
        ConfigError: a value is outside of what is allowed.
    """

    name: str
    revision: str | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    truncate_dim: int | None = None
    max_tokens: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    api: ApiOptions = field(default_factory=ApiOptions)

    def __post_init__(self) -> None:
        _one_of("--dtype", self.dtype, DTYPES)
        _one_of("--device", self.device, DEVICES)
        _at_least_one("--truncate-dim", self.truncate_dim)
        _at_least_one("--max-tokens", self.max_tokens)
        if self.prompt is not None and self.prompt_name is not None:
            raise ConfigError(
                f"--prompt {self.prompt!r} and --prompt-name {self.prompt_name!r} exclude each other: "
                "set only one of them"
            )
        if self.is_api:
            refuse_local_settings(self.name, vars(self))

    def locate(self) -> str:
        """Returns where the model is: an absolute folder, or the name itself for all that is no folder.

        Raises:
            ConfigError: the name is empty or malformed, the package is not installed, or the folder is missing or
                holds no embedder; an API has no key, or a cost to keep to without a price.
        """
        if self.is_api:
            self.api.check(self.api_name)
            return self.name
        if not self.name.strip():
            raise ConfigError(
                "model name is empty: give a hub id, a folder, package:NAME/folder, openai:NAME or hash:DIM"
            )
        if self._hash_dimension() is not None:
            return self.name
        if self.name.startswith(_PACKAGE):
            return _embedder_folder(self.name, _package_folder(self.name))
        folder = Path(self.name).expanduser()
        if folder.exists() or self.name.startswith(("/", ".", "~")) or self.name.count("/") > 1:
            return _embedder_folder(self.name, folder)
        return self.name

    @property
    def is_local(self) -> bool:
        """Whether the model's files are on this machine for sure: nothing has to be asked for over a network."""
        return Path(self.locate()).is_absolute() or self.name.startswith(_HASH)

    def anchored(self) -> Model:
        """Returns the same model as a worker needs it, in another folder or on another machine.

        Raises:
            ConfigError: as ``locate``.
        """
        if self.is_api:
            return replace(self, name=self.locate(), api=self.api.resolved(self.api_name))
        return self if self.name.startswith(_PACKAGE) else replace(self, name=self.locate())

    @property
    def is_api(self) -> bool:
        """Whether an API makes the vectors."""
        return self.name.startswith(_API)

    @property
    def calls(self) -> int:
        """Blocks that an encoder takes at a time: enough that no API is waited for by one request alone."""
        if not self.is_api:
            return LOCAL_CALLS
        requests_a_block = -(-BLOCK_ROWS // self.api.request_inputs)
        return max(LOCAL_CALLS, min(API_CALLS, -(-self.api.max_concurrency // requests_a_block)))

    @property
    def api_name(self) -> str:
        """The model's name as its API calls it."""
        return self.name.removeprefix(_API)

    def dimension(self) -> int | None:
        """Returns the length of the model's vectors as its files tell it, or None where only loading can tell.

        An API tells only by an answer, so that nothing but ``truncate_dim`` is known here, and no byte is sent.

        Of a hub model only these small JSON files are fetched, and none that is cached already.

        Raises:
            ConfigError: as ``locate``; the model does not exist, is no embedder, or cannot be reached; truncate_dim
                is larger than the vectors are.
        """
        if self.is_api:
            return self.truncate_dim
        width, default = self._hash_dimension(), None
        if width is None:
            width, default = declared_dimension(self.name, reader(self.locate(), self.revision))
        if width is None:
            return None
        if self.truncate_dim is not None and self.truncate_dim > width:
            raise ConfigError(
                f"--truncate-dim is {self.truncate_dim} but model {self.name} gives only {width} dimensions: "
                f"lower it to at most {width} or leave it out"
            )
        return min(width, self.truncate_dim or default or width)

    def load(
        self,
        threads: int | None = None,
        *,
        dim: int | None = None,
        budget: Budget | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Encoder:
        """Loads the model, which takes seconds and imports torch (``hash:DIM`` and APIs do neither).

        Args:
            threads: CPU threads for torch; None leaves its own default.
            dim: length that an API's vectors must have; its first answer is held to it.
            budget: that an API's requests share with others; None keeps the limits for this encoder alone.
            stopped: asked before each request to an API, and in each wait for one; nothing is sent once it is true.

        Raises:
            ConfigError: the model, device, prompt or a limit cannot be had; see ``TransformerEncoder``.
        """
        if self.is_api:
            from vecfill.encode.api.api_encoder import ApiEncoder

            return ApiEncoder(self.anchored(), dim=dim, budget=budget, stopped=stopped)
        width = self.dimension()
        if self._hash_dimension() is not None and width is not None:
            from vecfill.encode.hash_encoder import HashEncoder

            return HashEncoder(width)
        from vecfill.encode.transformer import TransformerEncoder

        return TransformerEncoder(self, threads=threads)

    def _hash_dimension(self) -> int | None:
        if not self.name.startswith(_HASH):
            return None
        digits = self.name.removeprefix(_HASH)
        if not (digits.isascii() and digits.isdigit() and int(digits) > 0):
            raise ConfigError(f"model {self.name!r} has no dimension: write a positive number, such as hash:384")
        return int(digits)


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{flag} is {value!r}: choose one of {', '.join(allowed)}")


def _at_least_one(flag: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ConfigError(f"{flag} is {value}: it must be at least 1, or left out")


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
    """Returns the folder's absolute path once it is seen to hold something that SentenceTransformer can load."""
    if not folder.is_dir():
        raise ConfigError(f"model {name}: there is no folder {folder}: correct the path, or give a hub id")
    if not any((folder / marker).is_file() for marker in _MARKERS):
        raise ConfigError(
            f"model {name}: folder {folder} holds no embedder ({' or '.join(_MARKERS[:2])} is missing): give the "
            "folder that SentenceTransformer.save wrote"
        )
    return str(folder.resolve())
