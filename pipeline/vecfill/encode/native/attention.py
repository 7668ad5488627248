"""Attention over texts that lie one after the other without padding: the strategies, and which are possible where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch.nn import functional

from vecfill.encode.device.packing import Packing
from vecfill.encode.native.architecture import Architecture

Bias = Callable[[int], torch.Tensor | None]
"""Returns what is added to the scores of a text of a length [1, heads, length, length]; None for nothing."""

_FLASH_HEAD = 256
"""Widest head that flash attention computes."""

_FLASH_CAPABILITY = (8, 0)
"""First GPUs that it runs on."""


class Attention(Protocol):
    """A strategy.

    Attributes:
        name: of the strategy.
        by_length: whether it is fast only if texts of equal length follow one another.
    """

    name: str
    by_length: bool

    def __call__(self, projections: torch.Tensor, texts: Packing, bias: Bias) -> torch.Tensor:
        """Returns the result [n, heads, size] of the query, key and value of n tokens [n, 3, heads, size]."""


class RunAttention:
    """Computes texts of equal length together, by the attention of torch: on any device, in any type."""

    name, by_length = "runs", True

    def __call__(self, projections: torch.Tensor, texts: Packing, bias: Bias) -> torch.Tensor:
        """See ``Attention``."""
        tokens, _, heads, size = projections.shape
        found = projections.new_empty(tokens, heads, size)
        for run in texts.runs:
            shape = (run.texts, run.length, 3, heads, size)
            query, key, value = projections[run.tokens].view(shape).permute(2, 0, 3, 1, 4)
            result = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias(run.length))
            found[run.tokens].view(run.texts, run.length, heads, size).copy_(result.transpose(1, 2))
        return found


class VarlenAttention:
    """Computes all texts at once, by torch's flash attention: on a GPU, in 16 bits."""

    name, by_length = "varlen", False

    def __init__(self) -> None:
        from torch.nn.attention.varlen import varlen_attn

        self._attend = varlen_attn

    def __call__(self, projections: torch.Tensor, texts: Packing, bias: Bias) -> torch.Tensor:
        """See ``Attention``."""
        (query, key, value), places, longest = projections.unbind(1), texts.boundaries, texts.longest
        return cast(torch.Tensor, self._attend(query, key, value, places, places, longest, longest))


class TextAttention:
    """Computes one text after the other, by the formula: slow, and what the other strategies are tested against."""

    name, by_length = "texts", False

    def __call__(self, projections: torch.Tensor, texts: Packing, bias: Bias) -> torch.Tensor:
        """See ``Attention``."""
        return torch.cat([self._text(one, bias(len(one))) for one in torch.split(projections, texts.lengths)])

    def _text(self, projections: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        query, key, value = projections.permute(1, 2, 0, 3)
        scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
        if bias is not None:
            scores = scores + bias[0]
        return torch.matmul(scores.softmax(-1), value).transpose(0, 1)


STRATEGIES: dict[str, Callable[[], Attention]] = {
    kind.name: kind for kind in (RunAttention, VarlenAttention, TextAttention)
}
"""By name."""


def possible_strategies(architecture: Architecture, device: torch.device, dtype: torch.dtype) -> list[str]:
    """Returns the names of the strategies that may be the fastest for a model; the first one computes everywhere.

    On a CPU there is nothing to choose.
    """
    names = [RunAttention.name]
    if device.type == "cuda" and _flash_computes(architecture, device, dtype):
        names.append(VarlenAttention.name)
    return names


def _flash_computes(architecture: Architecture, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch's flash attention computes it: no bias (MPNet's), 16 bits, heads of a size that it knows."""
    size = architecture.width // architecture.heads
    if architecture.family == "mpnet" or dtype not in (torch.bfloat16, torch.float16) or size % 8 or size > _FLASH_HEAD:
        return False
    try:
        VarlenAttention()
    except ImportError:  # torch before 2.11
        return False
    return torch.cuda.get_device_capability(device) >= _FLASH_CAPABILITY
