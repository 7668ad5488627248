"""The model that makes the vectors, as a light, picklable description. ``encode.load`` loads it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vecfill.config.api import ApiOptions, fields_in
from vecfill.config.spec import Spec, fields_of, flag_of, option, spec
from vecfill.errors import ConfigError

API_PREFIX, HASH_PREFIX = "openai:", "hash:"

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

LOCAL_ONLY = ("revision", "prompt_name", "dtype", "device", "encoder", "long", "overlap", "trust_remote_code")
"""Fields that an API model does not have."""

WITH_WEIGHTS_ONLY = ("revision", "prompt", "prompt_name")
"""Fields that would change the vectors of a real model, and that ``hash:DIM`` does not have."""


@spec
class Model(Spec):
    """A model and its settings, with the meaning that ``SentenceTransformer`` gives them.

    Attributes:
        name: hub id, folder, ``package:NAME/sub/folder`` (weights in an installed package), ``openai:NAME`` (a model
            behind an API) or ``hash:DIM`` (meaningless vectors without a model, for tests and measurements;
            ``hash:DIM:SALT`` is another such model).
        revision: branch, tag or commit on the hub.
        prompt: text put before every text.
        prompt_name: name of a prompt in the model's own list; excludes ``prompt``.
        truncate_dim: keeps only the first components, for models trained for it (Matryoshka); an API truncates itself.
        max_tokens: truncates texts at this length instead of the model's own.
        long: what happens to a text beyond that length: ``truncate`` leaves its end out; ``mean`` embeds it by windows
            of that length and takes the mean of their vectors, weighted by tokens.
        overlap: tokens that neighbouring windows share; only with ``mean``.
        dtype: type of the computation; ``auto`` is bfloat16 if it is fast on the device and its vectors match
            those of float32, else float32.
        device: ``cuda`` or ``cpu``; ``auto`` takes CUDA if available.
        encoder: ``library`` always computes with sentence-transformers; ``auto`` uses our own forward pass where it was
            proven to give the same vectors.
        trust_remote_code: runs Python code that comes with a hub model.
        api: settings of the API; only for ``openai:NAME``.
    """

    name: str = option(
        "Model: hub id, folder, package:NAME/sub/folder, openai:NAME (an API), or hash:DIM (meaningless test vectors).",
        name="model",
        short="-m",
        blank=True,  # the message of ``locate_model`` says what there is to choose from
    )
    revision: str | None = option("Use this branch, tag or commit of a hub model.", default=None)
    prompt: str | None = option("Put this prefix before each text, such as 'passage: '.", default=None, blank=True)
    prompt_name: str | None = option("Use the prompt of this name from the model's own list.", default=None)
    truncate_dim: int | None = option("Keep the first N dimensions (Matryoshka models).", default=None, gt=0)
    max_tokens: int | None = option("Truncate texts to N tokens.", default=None, unset="the model's limit", gt=0)
    long: Literal["truncate", "mean"] = option(
        "Truncate texts beyond the limit, or embed them by windows and take the mean of their vectors.",
        default="truncate",
    )
    overlap: int = option("Let neighbouring windows of --long mean share N tokens.", default=0, ge=0)
    dtype: Dtype = option(
        "Compute in this type; auto is bfloat16 if it is fast on the device and matches float32, else float32.",
        default="auto",
    )
    device: Literal["auto", "cuda", "cpu"] = option(
        "Compute on this device; auto uses a GPU if there is one.", default="auto"
    )
    encoder: Literal["auto", "library"] = option(
        "Compute with this; auto is vecfill's own forward pass where it was proven equal to sentence-transformers.",
        default="auto",
    )
    trust_remote_code: bool = option("Run the Python code that comes with a hub model.", default=False)
    api: ApiOptions = Field(default_factory=ApiOptions)

    def __post_init__(self) -> None:
        if self.prompt is not None and self.prompt_name is not None:
            raise ConfigError(
                f"--prompt {self.prompt!r} and --prompt-name {self.prompt_name!r} exclude each other: "
                "set only one of them"
            )
        if self.truncate_dim is not None and "dimensions" in fields_in(self.api.fields):
            raise ConfigError(
                f"--truncate-dim {self.truncate_dim} and --api-field dimensions=… exclude each other: set only one"
            )
        if self.overlap and self.long == "truncate":
            raise ConfigError(
                f"--overlap is {self.overlap} but --long is {self.long}, which has no windows: add --long mean, or "
                "leave --overlap out"
            )
        if self.is_api:
            self._refuse(LOCAL_ONLY, f"API model {self.name}")
        if self.name.startswith(HASH_PREFIX):
            self._refuse(WITH_WEIGHTS_ONLY, f"{self.name}, which stands in for a model,")

    @property
    def is_api(self) -> bool:
        """Whether an API makes the vectors."""
        return self.name.startswith(API_PREFIX)

    @property
    def api_name(self) -> str:
        """The model's name as its API calls it."""
        return self.name.removeprefix(API_PREFIX)

    def _refuse(self, fields: tuple[str, ...], whose: str) -> None:
        for field in fields:
            value = getattr(self, field)
            if value != fields_of(type(self))[field].default:
                raise ConfigError(f"{flag_of(field)} is {value!r} but {whose} has no such setting: leave it out")
