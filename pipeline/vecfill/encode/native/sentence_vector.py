"""From the vectors of tokens to the vector of a text: pooling, Dense and Normalize, without padding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from vecfill.encode.device.packing import Packing
from vecfill.encode.native.architecture import NotNativeError
from vecfill.encode.native.module_chain import DenseStep, ModuleChain
from vecfill.encode.native.weights import opened

Step = Callable[[torch.Tensor], torch.Tensor]
Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _reduced(tokens: torch.Tensor, places: torch.Tensor, how: str) -> torch.Tensor:
    """Reduces each text's vectors; ``unsafe`` spares a GPU the check that the places fit, for which it would wait."""
    return torch.segment_reduce(tokens, how, offsets=places, axis=0, unsafe=True)


def _lengths(places: torch.Tensor) -> torch.Tensor:
    return places.diff()[:, None]


def _weighted(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    starts = torch.repeat_interleave(places[:-1], places.diff(), output_size=len(tokens))
    weights = torch.arange(1, len(tokens) + 1, device=tokens.device) - starts
    lengths = _lengths(places).float()
    return _reduced(tokens * weights[:, None], places, "sum") / (lengths * (lengths + 1) / 2)


_POOLINGS: dict[str, Pool] = {
    "cls": lambda tokens, places: tokens[places[:-1]],
    "lasttoken": lambda tokens, places: tokens[places[1:] - 1],
    "max": lambda tokens, places: _reduced(tokens, places, "max"),
    "mean": lambda tokens, places: _reduced(tokens, places, "sum") / _lengths(places),
    "mean_sqrt_len_tokens": lambda tokens, places: _reduced(tokens, places, "sum") / _lengths(places).sqrt(),
    "weightedmean": _weighted,
}
"""From float32 [tokens, width] and the texts' boundaries [texts + 1] to [texts, width]."""


class SentenceVector:
    """Computes texts' vectors from their tokens' vectors, in float32. Thread-safe."""

    def __init__(self, chain: ModuleChain, folder: Path, device: torch.device) -> None:
        """Reads the weights of the Dense modules.

        Raises:
            NotNativeError: a weight is missing.
        """
        self._poolings = [_POOLINGS[name] for name in chain.poolings]
        self._steps = [_normalised if step is None else _dense(step, folder, device) for step in chain.steps]

    def __call__(self, tokens: torch.Tensor, texts: Packing) -> torch.Tensor:
        """Returns float32 [texts, dim] of the tokens' vectors [n, width]."""
        exact = tokens.float()
        vectors = torch.cat([pool(exact, texts.boundaries) for pool in self._poolings], 1)
        for step in self._steps:
            vectors = step(vectors)
        return vectors


def _normalised(vectors: torch.Tensor) -> torch.Tensor:
    return functional.normalize(vectors, dim=1)


def _dense(step: DenseStep, folder: Path, device: torch.device) -> Step:
    with opened(folder / step.folder) as (names, read):
        if "linear.weight" not in names:
            raise NotNativeError(f"{step.folder} holds no weight linear.weight")
        weight = read("linear.weight").to(device, torch.float32)
        bias = read("linear.bias").to(device, torch.float32) if "linear.bias" in names else None
    activate: nn.Module = getattr(nn, step.activation)()
    return lambda vectors: activate(functional.linear(vectors, weight, bias))
