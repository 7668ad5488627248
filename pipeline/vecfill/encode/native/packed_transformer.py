"""The transformer over texts that are concatenated without padding.

Linear layers see all tokens at once; attention is a strategy. Query, key and value are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn import functional

from vecfill.encode.device.packing import Packing
from vecfill.encode.native.architecture import Architecture
from vecfill.encode.native.attention import Attention
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


class PackedTransformer:
    """Computes the vectors of tokens. Thread-safe."""

    def __init__(self, architecture: Architecture, weights: TransformerWeights, attention: Attention) -> None:
        self._architecture, self._weights, self._attention = architecture, weights, attention
        self._activate = _ACTIVATIONS[architecture.activation]
        self._bias: torch.Tensor | None = None

    def __call__(
        self, ids: torch.Tensor, positions: torch.Tensor, types: torch.Tensor | None, texts: Packing
    ) -> torch.Tensor:
        """Returns the tokens' vectors [n, width], in the type of the weights.

        Args:
            ids: integers [n], the texts' tokens, one text after the other.
            positions: integers [n], their positions.
            types: integers [n], the token types; None where all are 0.
            texts: where they are.
        """
        x = self._embedded(ids, positions, types)
        for layer in self._weights.layers:
            x = self._layer(layer, x, texts)
        return x

    def _embedded(self, ids: torch.Tensor, positions: torch.Tensor, types: torch.Tensor | None) -> torch.Tensor:
        x = functional.embedding(ids, self._weights.words)
        if self._weights.types is not None:
            x += self._weights.types[0] if types is None else functional.embedding(types, self._weights.types)
        x += functional.embedding(positions, self._weights.positions)
        return self._normalised(x, self._weights.norm)

    def _layer(self, layer: LayerWeights, x: torch.Tensor, texts: Packing) -> torch.Tensor:
        heads = self._architecture.heads
        projections = functional.linear(x, *layer.projections).view(len(x), 3, heads, -1)
        attended = self._attention(projections, texts, self._relative).reshape(len(x), -1)
        x = self._normalised(_added(x, attended, layer.attention), layer.attention_norm)
        wide = self._activate(functional.linear(x, *layer.widened))
        return self._normalised(_added(x, wide, layer.narrowed), layer.output_norm)

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
    places = torch.arange(length, device=table.device)
    distance = places[:, None] - places[None, :]
    far = distance.abs().clamp(min=1).float() / exact
    shared = exact + (torch.log(far) / math.log(_MAX_DISTANCE / exact) * (half - exact)).long()
    bucket = torch.where(distance.abs() < exact, distance.abs(), shared.clamp(max=half - 1))
    return table[bucket + (distance < 0).long() * half].permute(2, 0, 1).contiguous()
