"""The device: what it is, how fast it multiplies matrices of the model's own shapes, and what the texts are to it."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vecfill.bench.library import BATCHES, load
from vecfill.bench.measure import Measured, sorted_padding
from vecfill.config.model import Model

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")
"""What decides the rate of a CPU's matrix products, by /proc/cpuinfo's names (x86 and ARM)."""

TOKENS_AT_ONCE = {"cpu": (1_024, 2_048, 4_096), "cuda": (8_192, 32_768, 65_536)}
"""Rows of the matrices that are tried: as many as the encoder's batches have tokens."""

SHAPE_S = 0.15
"""Seconds that each shape is repeated for; the best time counts."""

LIBRARIES = ("vecfill", "torch", "sentence-transformers", "transformers", "ray", "psycopg", "pyarrow")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, load and versions: what a figure is worth nothing without."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


@dataclass(kw_only=True)
class Device:
    """Asked once, in a process of its own, before anybody is measured.

    Attributes:
        dtypes: types whose matrix rate is wanted.
    """

    model: Model
    texts: tuple[str, ...]
    dtypes: tuple[str, ...]

    def prepare(self) -> dict[str, Any]:
        """Returns parameters, matrix FLOP a second by dtype, the device's name, tokens and ``encode``'s padding."""
        import torch

        net = load(self.model)
        kind = net.device.type
        tokens = _token_counts(net, self.texts)
        sizes = np.array([len(text) for text in self.texts], np.int64)
        return {
            "device": kind,
            "device_name": torch.cuda.get_device_name() if kind == "cuda" else None,
            "threads": torch.get_num_threads(),
            "parameters": _parameters(net),
            "flops": {dtype: matrix_rate(_shapes(net), getattr(torch, dtype), kind) for dtype in self.dtypes},
            "tokens": int(tokens.sum()),
            "tokens_p5_p50_p95": [int(one) for one in np.percentile(tokens, (5, 50, 95))] if len(tokens) else [],
            "padding": {size: sorted_padding(tokens, sizes, size) for size in BATCHES},
        }

    def measure(self) -> Measured:
        """There is nothing to measure twice."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


def _token_counts(net: Any, texts: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """int32 [n]: tokens after truncation, special tokens included; zeros where the model has no tokenizer."""
    tokenizer = getattr(net, "tokenizer", None)
    if tokenizer is None or not callable(tokenizer):
        return np.zeros(len(texts), np.int32)
    ids = tokenizer(list(texts), truncation=True, max_length=net.max_seq_length)["input_ids"]
    return np.array([len(one) for one in ids], np.int32)


def _parameters(net: Any) -> int:
    """Parameters that take part in products: all but the embedding tables, and BERT's pooler, which nobody asks."""
    from torch import nn

    tables = {id(one) for module in net.modules() if isinstance(module, nn.Embedding) for one in module.parameters()}
    named = ((name, one) for name, one in net.named_parameters() if id(one) not in tables)
    return sum(one.numel() for name, one in named if ".pooler." not in name)


def _shapes(net: Any) -> Counter[tuple[int, int]]:
    """Inputs and outputs of the transformer's linear layers, with how many have each shape."""
    from torch import nn

    named = ((name, one) for name, one in net[0].named_modules() if isinstance(one, nn.Linear))
    return Counter((one.in_features, one.out_features) for name, one in named if ".pooler." not in name)


def matrix_rate(shapes: Counter[tuple[int, int]], dtype: Any, device: str) -> float:
    """FLOP a second of the layers' matrix products, one after the other, at the best number of tokens.

    Returns:
        0.0 where there are no linear layers.
    """
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
