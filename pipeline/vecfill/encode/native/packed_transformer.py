"""The transformer over texts that are concatenated without padding.

Linear layers see all tokens at once. Attention sees texts of equal length together: texts come sorted by length, so
that there are few lengths in a batch. Query, key and value are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple

import torch
from torch.nn import functional

from vecfill.encode.native.architecture import Architecture
from vecfill.encode.native.weights import Affine, LayerWeights, TransformerWeights

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": torch.ops.aten.gelu_,
    "gelu_new": lambda x: torch.ops.aten.gelu_(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: torch.ops.aten.gelu_(x, approximate="tanh"),
    "relu": torch.relu_,
    "silu": lambda x: functional.silu(x, inplace=True),
}
"""In place, by their names in ``config.json``."""

_MAX_DISTANCE = 128
"""Of MPNet's relative positions."""


class Run(NamedTuple):
    """Texts of equal length that follow one another: where their tokens are, how many texts, and their length."""

    tokens: slice
    texts: int
    length: int


def runs_of(lengths: list[int]) -> list[Run]:
    """Returns the runs of texts with these lengths."""
    runs, start = [], 0
    for length, same in groupby(lengths):
        texts = len(list(same))
        runs.append(Run(slice(start, start + texts * length), texts, length))
        start += texts * length
    return runs


class PackedTransformer:
    """Computes the vectors of tokens. Thread-safe."""

    def __init__(self, architecture: Architecture, weights: TransformerWeights) -> None:
        self._architecture, self._weights = architecture, weights
        self._activate = _ACTIVATIONS[architecture.activation]
        self._bias: torch.Tensor | None = None

    def __call__(self, ids: torch.Tensor, types: torch.Tensor | None, runs: list[Run]) -> torch.Tensor:
        """Returns the tokens' vectors [n, width], in the type of the weights.

        Args:
            ids: int64 [n], the texts' tokens, one text after the other.
            types: int64 [n], the token types; None where all are 0.
            runs: the texts.
        """
        x = self._embedded(ids, types, runs)
        biases = [self._relative(run.length) for run in runs]
        for layer in self._weights.layers:
            x = self._layer(layer, x, runs, biases)
        return x

    def _embedded(self, ids: torch.Tensor, types: torch.Tensor | None, runs: list[Run]) -> torch.Tensor:
        x = functional.embedding(ids, self._weights.words)
        if self._weights.types is not None:
            x += self._weights.types[0] if types is None else functional.embedding(types, self._weights.types)
        x += functional.embedding(self._positions(ids, runs), self._weights.positions)
        return self._normalised(x, self._weights.norm)

    def _positions(self, ids: torch.Tensor, runs: list[Run]) -> torch.Tensor:
        """Returns the tokens' positions [n]: they count from 0, or behind the padding token's id and without it."""
        padding = self._architecture.padding
        if padding is None:
            return torch.cat([torch.arange(run.length).repeat(run.texts) for run in runs])
        real = ids.ne(padding).long()
        counted = torch.cat([real[run.tokens].view(run.texts, run.length).cumsum(1).view(-1) for run in runs])
        return counted.mul_(real).add_(padding)

    def _layer(
        self, layer: LayerWeights, x: torch.Tensor, runs: list[Run], biases: list[torch.Tensor | None]
    ) -> torch.Tensor:
        attended = self._attended(functional.linear(x, *layer.projections), runs, biases)
        x = self._normalised(_added(x, attended, layer.attention), layer.attention_norm)
        wide = self._activate(functional.linear(x, *layer.widened))
        return self._normalised(_added(x, wide, layer.narrowed), layer.output_norm)

    def _attended(self, projections: torch.Tensor, runs: list[Run], biases: list[torch.Tensor | None]) -> torch.Tensor:
        """Returns the attention's result [n, width] of the projections [n, 3 * width]."""
        width, heads = self._architecture.width, self._architecture.heads
        found = projections.new_empty(len(projections), width)
        for run, bias in zip(runs, biases, strict=True):
            shape = (run.texts, run.length, 3, heads, width // heads)
            query, key, value = projections[run.tokens].view(shape).permute(2, 0, 3, 1, 4)
            result = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
            found[run.tokens].view(run.texts, run.length, heads, -1).copy_(result.transpose(1, 2))
        return found

    def _normalised(self, x: torch.Tensor, norm: Affine) -> torch.Tensor:
        return functional.layer_norm(x, (self._architecture.width,), *norm, self._architecture.epsilon)

    def _relative(self, length: int) -> torch.Tensor | None:
        """Returns what MPNet adds to the attention scores [1, heads, length, length]; None for other families."""
        if self._weights.relative is None:
            return None
        bias = self._bias
        if bias is None or bias.shape[1] < length:
            self._bias = bias = relative_bias(self._weights.relative, length)
        return bias[None, :, :length, :length]


def _added(x: torch.Tensor, inputs: torch.Tensor, layer: Affine) -> torch.Tensor:
    """Adds a linear layer's result to ``x``, in place: the matrix product adds up by itself."""
    return x.add_(layer.bias).addmm_(inputs, layer.weight.t())


def relative_bias(table: torch.Tensor, length: int) -> torch.Tensor:
    """Returns the bias of each head by the distance of two tokens [heads, length, length].

    As T5's: half of the buckets for each direction; near distances have a bucket each, farther ones share them by
    their logarithm.
    """
    half = len(table) // 2
    exact = half // 2
    places = torch.arange(length)
    distance = places[:, None] - places[None, :]
    far = distance.abs().clamp(min=1).float() / exact
    shared = exact + (torch.log(far) / math.log(_MAX_DISTANCE / exact) * (half - exact)).long()
    bucket = torch.where(distance.abs() < exact, distance.abs(), shared.clamp(max=half - 1))
    return table[bucket + (distance < 0).long() * half].permute(2, 0, 1).contiguous()
