"""The device's rate of matrix products at the shapes of a model's own layers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

TOKENS_AT_ONCE = {"cpu": (1_024, 2_048, 4_096), "cuda": (8_192, 32_768, 65_536)}
"""Rows of the matrices: as many as the encoder's batches have tokens."""

SHAPE_S = 0.15
"""Seconds that each shape is repeated for; the best time counts."""


def parameters(net: Any) -> int:
    """Parameters that take part in products: all but the embedding tables, and BERT's pooler, which is not used."""
    from torch import nn

    tables = {id(one) for module in net.modules() if isinstance(module, nn.Embedding) for one in module.parameters()}
    named = ((name, one) for name, one in net.named_parameters() if id(one) not in tables)
    return sum(one.numel() for name, one in named if ".pooler." not in name)


def layer_shapes(net: Any) -> Counter[tuple[int, int]]:
    """Inputs and outputs of the transformer's linear layers, with how many have each shape."""
    from torch import nn

    named = ((name, one) for name, one in net[0].named_modules() if isinstance(one, nn.Linear))
    return Counter((one.in_features, one.out_features) for name, one in named if ".pooler." not in name)


def matrix_rate(shapes: Counter[tuple[int, int]], dtype: Any, device: str) -> float:
    """FLOP a second of the layers' matrix products at the best number of tokens; 0 where there are no linear layers."""
    return max(_rate(shapes, tokens, dtype, device) for tokens in TOKENS_AT_ONCE[device]) if shapes else 0.0


def _rate(shapes: Counter[tuple[int, int]], tokens: int, dtype: Any, device: str) -> float:
    flop = sum(2.0 * tokens * wide * out * count for (wide, out), count in shapes.items())
    return flop / sum(_seconds(tokens, wide, out, dtype, device) * count for (wide, out), count in shapes.items())


def _seconds(tokens: int, wide: int, out: int, dtype: Any, device: str) -> float:
    """The best time of one product."""
    import torch

    with torch.inference_mode():
        left = torch.randn(tokens, wide, device=device).to(dtype)
        right = torch.randn(out, wide, device=device).to(dtype)
        synchronize: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
        best, until = float("inf"), time.perf_counter() + SHAPE_S
        while time.perf_counter() < until or best == float("inf"):
            synchronize()
            start = time.perf_counter()
            torch.nn.functional.linear(left, right)
            synchronize()
            best = min(best, time.perf_counter() - start)
    return best
