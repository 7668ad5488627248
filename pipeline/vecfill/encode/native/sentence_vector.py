"""From the vectors of tokens to the vector of a text: pooling, Dense and Normalize, without padding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from vecfill.encode.native.architecture import NotNativeError
from vecfill.encode.native.module_chain import DenseStep, ModuleChain
from vecfill.encode.native.packed_transformer import Run
from vecfill.encode.native.weights import opened

Step = Callable[[torch.Tensor], torch.Tensor]


def _weighted(x: torch.Tensor) -> torch.Tensor:
    weights = torch.arange(1, x.shape[1] + 1, dtype=x.dtype, device=x.device)[:, None]
    return (x * weights).sum(1) / weights.sum()


_POOLINGS: dict[str, Step] = {
    "cls": lambda x: x[:, 0],
    "lasttoken": lambda x: x[:, -1],
    "max": lambda x: x.amax(1),
    "mean": lambda x: x.mean(1),
    "mean_sqrt_len_tokens": lambda x: x.sum(1) / x.shape[1] ** 0.5,
    "weightedmean": _weighted,
}
"""From float32 [texts, length, width] to [texts, width]."""


class SentenceVector:
    """Computes texts' vectors from their tokens' vectors, in float32. Thread-safe."""

    def __init__(self, chain: ModuleChain, folder: Path) -> None:
        """Reads the weights of the Dense modules.

        Raises:
            NotNativeError: a weight is missing.
        """
        self._poolings = [_POOLINGS[name] for name in chain.poolings]
        self._steps = [_normalised if step is None else _dense(step, folder) for step in chain.steps]

    def __call__(self, tokens: torch.Tensor, runs: list[Run]) -> torch.Tensor:
        """Returns float32 [texts, dim] of the tokens' vectors [n, width]."""
        vectors = torch.cat([self._pooled(tokens[run.tokens].float(), run) for run in runs])
        for step in self._steps:
            vectors = step(vectors)
        return vectors

    def _pooled(self, tokens: torch.Tensor, run: Run) -> torch.Tensor:
        texts = tokens.view(run.texts, run.length, -1)
        return torch.cat([pool(texts) for pool in self._poolings], 1)


def _normalised(vectors: torch.Tensor) -> torch.Tensor:
    return functional.normalize(vectors, dim=1)


def _dense(step: DenseStep, folder: Path) -> Step:
    with opened(folder / step.folder) as (names, read):
        if "linear.weight" not in names:
            raise NotNativeError(f"{step.folder} holds no weight linear.weight")
        weight = read("linear.weight").float()
        bias = read("linear.bias").float() if "linear.bias" in names else None
    activate: nn.Module = getattr(nn, step.activation)()
    return lambda vectors: activate(functional.linear(vectors, weight, bias))
