"""Reads the modules of a SentenceTransformer: a transformer, its pooling, and what follows. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecfill.encode.model.model_files import LEGACY_POOLING, ReadJson
from vecfill.encode.native.architecture import Architecture, NotNativeError, architecture_of

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

DENSE_ACTIVATIONS = frozenset({"Tanh", "Identity", "ReLU", "GELU", "Sigmoid", "SiLU"})
"""Classes of ``torch.nn``, made without arguments, as the library makes them."""


@dataclass(frozen=True, kw_only=True)
class DenseStep:
    """A linear layer on the sentence's vector.

    Attributes:
        folder: of its weights, relative to the model's.
        activation: name in ``DENSE_ACTIVATIONS``.
    """

    folder: str
    activation: str


@dataclass(frozen=True, kw_only=True)
class ModuleChain:
    """The modules of a model that our pass computes.

    Attributes:
        folder: of the transformer's files, relative to the model's; empty for the model's own.
        architecture: of the transformer.
        poolings: names in ``POOLINGS``; the results are concatenated.
        steps: what follows, in order; None stands for scaling to unit length.
    """

    folder: str
    architecture: Architecture
    poolings: tuple[str, ...]
    steps: tuple[DenseStep | None, ...]

    @property
    def unit(self) -> bool:
        """Whether the vectors have unit length."""
        return self.steps[-1:] == (None,)


_TRANSFORMER_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
_TRANSFORMER = {
    "transformer_task": ("feature-extraction",),
    "modality_config": (None, _TEXT),
    "module_output_name": (None, "token_embeddings"),
    "processing_kwargs": (None, {}),
    **dict.fromkeys(("query_length", "document_length", "query_expansion"), (None,)),
    **dict.fromkeys(("model_args", "tokenizer_args", "config_args"), (None, {})),
}
"""Keys of the transformer's own file with the values that our pass knows. The proof takes the others' effect, the limit
and the tokenizer, from the library."""
_TAKEN_FROM_THE_LIBRARY = frozenset({"max_seq_length", "do_lower_case", "unpad_inputs"})

_SETTINGS = frozenset({"__version__", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim"})
_SETTINGS_ONLY = {"model_type": ("SentenceTransformer",)}

_VECTOR = (None, "sentence_embedding")

_WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
"""In the order in which transformers looks for them."""


def weights_file(folder: Path) -> Path:
    """Returns the file of the weights in a folder, or the one that lists their files.

    Raises:
        NotNativeError: there is none; of a hub model, it may not be fetched yet.
    """
    found = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise NotNativeError(f"{folder} holds no file of weights that our pass reads")
    return found


def chain_of(read: ReadJson) -> ModuleChain:
    """Returns the modules of a model.

    Args:
        read: reads the model's JSON files.

    Raises:
        NotNativeError: a module, a key or a value that our pass does not know.
    """
    if read("adapter_config.json") is not None:
        raise NotNativeError("it is an adapter")
    _known(_settings(read, "config_sentence_transformers.json"), _SETTINGS_ONLY, _SETTINGS)
    modules = [_module(module) for module in read("modules.json") or ()]
    if not modules:  # a plain transformer, to which the library adds mean pooling
        return _chain("", read, ("mean",), ())
    if [kind for kind, _ in modules[:2]] != ["Transformer", "Pooling"]:
        raise NotNativeError(f"its modules are {', '.join(kind for kind, _ in modules)}")
    poolings = _poolings(_settings(read, f"{modules[1][1]}/config.json", needed=True))
    return _chain(modules[0][1], read, poolings, tuple(_step(kind, path, read) for kind, path in modules[2:]))


def _settings(read: ReadJson, file: str, *, needed: bool = False) -> dict[str, Any]:
    """The settings in a file, none where there is no such file: of a hub model, one may not be fetched yet."""
    found = read(file)
    if not isinstance(found, dict | None) or (needed and found is None):
        raise NotNativeError(f"{file} holds no settings")
    return found or {}


def _module(module: Any) -> tuple[str, str]:
    """A module's class and folder."""
    if not isinstance(module, dict) or module.keys() - {"idx", "name", "path", "type"}:
        raise NotNativeError(f"modules.json has the entry {module!r}")
    origin, _, kind = str(module.get("type")).rpartition(".")
    if not origin.startswith("sentence_transformers."):
        raise NotNativeError(f"it has a module {module.get('type')!r}")
    return kind, str(module.get("path", ""))


def _chain(folder: str, read: ReadJson, poolings: tuple[str, ...], steps: tuple[DenseStep | None, ...]) -> ModuleChain:
    place = f"{folder}/" if folder else ""
    for name in _TRANSFORMER_FILES:
        _known(_settings(read, place + name), _TRANSFORMER, _TAKEN_FROM_THE_LIBRARY)
    architecture = architecture_of(_settings(read, f"{place}config.json", needed=True))
    return ModuleChain(folder=folder, architecture=architecture, poolings=poolings, steps=steps)


def _poolings(config: Mapping[str, Any]) -> tuple[str, ...]:
    _known(
        config,
        {"include_prompt": (True,)},
        {"word_embedding_dimension", "embedding_dimension", "pooling_mode", *LEGACY_POOLING},
    )
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in LEGACY_POOLING.items() if config.get(flag)] or ["mean"]
    found = (modes,) if isinstance(modes, str) else tuple(modes)
    if not found or not set(found) <= set(POOLINGS):
        raise NotNativeError(f"its pooling is {modes!r}")
    return found


def _step(kind: str, folder: str, read: ReadJson) -> DenseStep | None:
    config = _settings(read, f"{folder}/config.json", needed=kind == "Dense")
    names = {"module_input_name": _VECTOR, "module_output_name": _VECTOR}
    if kind == "Normalize":
        _known(config, names, ())
        return None
    if kind != "Dense":
        raise NotNativeError(f"it has a module {kind}")
    _known(config, {**names, "use_residual": (False,)}, {"in_features", "out_features", "bias", "activation_function"})
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    origin, _, name = activation.rpartition(".")
    if not f"{origin}.".startswith("torch.nn.") or name not in DENSE_ACTIVATIONS:
        raise NotNativeError(f"its Dense module has the activation {activation}")
    return DenseStep(folder=folder, activation=name)


def _known(config: Mapping[str, Any], only: Mapping[str, tuple[Any, ...]], others: Any) -> None:
    for key, value in config.items():
        if key in only and value not in only[key]:
            raise NotNativeError(f"it sets {key} to {value!r}")
        if key not in only and key not in others:
            raise NotNativeError(f"it has the key {key}, whose meaning is not known")
