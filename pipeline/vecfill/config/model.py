"""Which model makes the vectors: a light, picklable name for it. ``encode.load`` loads it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vecfill.config.api import ApiOptions
from vecfill.config.spec import Spec, fields_of, flag_of, option, spec
from vecfill.errors import ConfigError

API_PREFIX = "openai:"

LOCAL_ONLY = ("revision", "prompt_name", "dtype", "device", "trust_remote_code")
"""Fields that an API's model has no use for."""


@spec
class Model(Spec):
    """A model and its settings; each means what it means to ``SentenceTransformer``.

    Attributes:
        name: hub id, folder, ``package:NAME/sub/folder`` (weights in an installed package), ``openai:NAME`` (a model
            behind an API) or ``hash:DIM`` (meaningless vectors without a model, for tests and measurements).
        revision: branch, tag or commit on the hub.
        prompt: text put before every text.
        prompt_name: name of a prompt in the model's own list; excludes ``prompt``.
        truncate_dim: keeps the first components only, for models trained for it (Matryoshka); an API does it itself.
        max_tokens: truncates texts at this length instead of the model's own.
        dtype: type of the computation; ``auto`` is bfloat16 where the device is fast at it and the vectors agree with
            float32's, else float32.
        device: ``cuda`` or ``cpu``; ``auto`` takes CUDA if available.
        trust_remote_code: runs Python code that comes with a hub model.
        api: how to ask an API, for ``openai:NAME`` alone.
    """

    name: str = option(
        "Model: hub id, folder, package:NAME/sub/folder, openai:NAME (an API), or hash:DIM (meaningless test vectors).",
        name="model",
        short="-m",
    )
    revision: str | None = option("Branch, tag or commit of a hub model.", default=None)
    prompt: str | None = option("Put this before each text, such as 'passage: '.", default=None)
    prompt_name: str | None = option("Use the prompt of this name from the model's own list.", default=None)
    truncate_dim: int | None = option("Keep the first N dimensions (Matryoshka models).", default=None, gt=0)
    max_tokens: int | None = option("Truncate texts to N tokens.", default=None, unset="the model's limit", gt=0)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "Number type of the computation; auto is bfloat16 if the device is fast at it and vectors agree, else float32.",
        default="auto",
    )
    device: Literal["auto", "cuda", "cpu"] = option("Compute on this device; auto uses a GPU if any.", default="auto")
    trust_remote_code: bool = option("Run the Python code that comes with a hub model.", default=False)
    api: ApiOptions = Field(default_factory=ApiOptions)

    def __post_init__(self) -> None:
        if self.prompt is not None and self.prompt_name is not None:
            raise ConfigError(
                f"--prompt {self.prompt!r} and --prompt-name {self.prompt_name!r} exclude each other: "
                "set only one of them"
            )
        if self.is_api:
            self._refuse_local_settings()

    @property
    def is_api(self) -> bool:
        """Whether an API makes the vectors."""
        return self.name.startswith(API_PREFIX)

    @property
    def api_name(self) -> str:
        """The model's name as its API calls it."""
        return self.name.removeprefix(API_PREFIX)

    def _refuse_local_settings(self) -> None:
        for field in LOCAL_ONLY:
            value = getattr(self, field)
            if value != fields_of(type(self))[field].default:
                raise ConfigError(
                    f"{flag_of(field)} is {value!r} but API model {self.name} has no such setting: leave it out"
                )
