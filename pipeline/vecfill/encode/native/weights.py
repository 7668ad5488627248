"""Reads a transformer's weights from its own files, under the names of each family, into one shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open

from vecfill.encode.native.architecture import Architecture, MissingWeightError
from vecfill.encode.native.module_chain import weights_file

Read = Callable[[str], torch.Tensor]
"""Returns a weight by its name."""

_LEGACY = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
"""Names in files converted from TensorFlow."""


class Affine(NamedTuple):
    """Weight and bias of a linear layer [out, in] and [out], or of a normalisation [width] and [width]."""

    weight: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """One layer; the query, key and value projections are one matrix [3 * width, width]."""

    projections: Affine
    attention: Affine
    attention_norm: Affine
    widened: Affine
    narrowed: Affine
    output_norm: Affine


@dataclass(frozen=True, kw_only=True)
class TransformerWeights:
    """All weights that our pass uses.

    Attributes:
        words: [vocabulary, width].
        positions: [positions, width].
        types: [types, width]; None where the family has no token types.
        norm: behind the sum of these.
        layers: in order.
        relative: [buckets, heads], added to the attention scores by distance; None but for MPNet.
    """

    words: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor | None
    norm: Affine
    layers: tuple[LayerWeights, ...]
    relative: torch.Tensor | None


@dataclass(frozen=True, kw_only=True)
class _Names:
    """A family's names of its weights; those of a layer follow ``layer`` and its number."""

    prefix: str
    layer: str
    query_key_value: tuple[str, str, str]
    attention: str
    attention_norm: str
    widened: str = "intermediate.dense"
    narrowed: str = "output.dense"
    output_norm: str = "output.LayerNorm"
    has_types: bool = False
    relative: str | None = None


def _bert(prefix: str) -> _Names:
    return _Names(
        prefix=prefix,
        layer="encoder.layer",
        query_key_value=("attention.self.query", "attention.self.key", "attention.self.value"),
        attention="attention.output.dense",
        attention_norm="attention.output.LayerNorm",
        has_types=True,
    )


_NAMES = {
    "bert": _bert("bert."),
    "roberta": _bert("roberta."),
    "xlm-roberta": _bert("roberta."),
    "mpnet": _Names(
        prefix="mpnet.",
        layer="encoder.layer",
        query_key_value=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        attention="attention.attn.o",
        attention_norm="attention.LayerNorm",
        relative="encoder.relative_attention_bias.weight",
    ),
    "distilbert": _Names(
        prefix="distilbert.",
        layer="transformer.layer",
        query_key_value=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        attention="attention.out_lin",
        attention_norm="sa_layer_norm",
        widened="ffn.lin1",
        narrowed="ffn.lin2",
        output_norm="output_layer_norm",
    ),
}


def transformer_weights(
    folder: Path, architecture: Architecture, device: torch.device, dtype: torch.dtype
) -> TransformerWeights:
    """Reads the weights that our pass uses to the device, in ``dtype``; others, such as a pooler's, are left alone.

    Raises:
        MissingWeightError: the files lack one of them.
        NotNativeError: there is no file of weights.
        OSError, RuntimeError, SafetensorError: a file cannot be read.
    """
    names = _NAMES[architecture.family]
    with opened(folder) as (known, stored):

        def read(name: str) -> torch.Tensor:
            for one in (name, *(name.replace(new, old) for new, old in _LEGACY.items() if name.endswith(new))):
                for full in (one, names.prefix + one):
                    if full in known:
                        return stored(full).to(device, dtype)
            raise MissingWeightError(f"its files hold no weight {name}")

        return _gathered(names, architecture.layers, read)


def _gathered(names: _Names, layers: int, read: Read) -> TransformerWeights:
    return TransformerWeights(
        words=read("embeddings.word_embeddings.weight"),
        positions=read("embeddings.position_embeddings.weight"),
        types=read("embeddings.token_type_embeddings.weight") if names.has_types else None,
        norm=_affine(read, "embeddings.LayerNorm"),
        layers=tuple(_layer(names, f"{names.layer}.{number}.", read) for number in range(layers)),
        relative=read(names.relative) if names.relative else None,
    )


def _layer(names: _Names, place: str, read: Read) -> LayerWeights:
    parts = [_affine(read, place + name) for name in names.query_key_value]
    return LayerWeights(
        projections=Affine(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])),
        attention=_affine(read, place + names.attention),
        attention_norm=_affine(read, place + names.attention_norm),
        widened=_affine(read, place + names.widened),
        narrowed=_affine(read, place + names.narrowed),
        output_norm=_affine(read, place + names.output_norm),
    )


def _affine(read: Read, name: str) -> Affine:
    return Affine(read(f"{name}.weight"), read(f"{name}.bias"))


@contextmanager
def opened(folder: Path) -> Iterator[tuple[frozenset[str], Read]]:
    """Opens the weights in a folder: their names, and a function that reads one of them as it is stored.

    Raises:
        NotNativeError: there is none.
    """
    path = weights_file(folder)
    files = _shards(path) if path.suffix == ".json" else [path]
    with ExitStack() as stack:
        places: dict[str, Read] = {}
        for file in files:
            places |= _contents(file, stack)
        yield frozenset(places), lambda name: places[name](name)


def _shards(index: Path) -> list[Path]:
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [index.parent / name for name in sorted(set(names))]


def _contents(file: Path, stack: ExitStack) -> dict[str, Read]:
    """The weights of one file by name, with the function that reads them."""
    if file.suffix == ".safetensors":
        tensors = stack.enter_context(safe_open(file, framework="pt"))
        return dict.fromkeys(tensors.keys(), tensors.get_tensor)
    stored: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    return dict.fromkeys(stored, stored.__getitem__)


def _is_zip(file: Path) -> bool:
    """Whether torch can map the file; it cannot map those of torch before 1.6."""
    with file.open("rb") as start:
        return start.read(2) == b"PK"
