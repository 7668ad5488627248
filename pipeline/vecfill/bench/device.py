"""The machine, its matrix rate at the model's own shapes, and the texts' tokens."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vecfill.bench.matrix_rate import layer_shapes, matrix_rate, parameters
from vecfill.bench.measure import sorted_padding
from vecfill.bench.others import BATCHES, load
from vecfill.bench.worker import Runner
from vecfill.config.model import Model

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")
"""What decides the rate of a CPU's matrix products, by /proc/cpuinfo's names (x86 and ARM)."""

LIBRARIES = ("vecfill", "torch", "sentence-transformers", "transformers", "ray", "psycopg", "pyarrow")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, load and versions: no figure means anything without them."""
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
class Device(Runner):
    """The device's own figures in each of ``dtypes``, taken once in a process of their own before all else."""

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
            "parameters": parameters(net),
            "flops": {dtype: matrix_rate(layer_shapes(net), getattr(torch, dtype), kind) for dtype in self.dtypes},
            "tokens": int(tokens.sum()),
            "tokens_p5_p50_p95": [int(one) for one in np.percentile(tokens, (5, 50, 95))] if len(tokens) else [],
            "padding": {size: sorted_padding(tokens, sizes, size) for size in BATCHES},
        }


def _token_counts(net: Any, texts: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """int32 [n]: tokens after truncation, special tokens included; zeros where the model has no tokenizer."""
    tokenizer = getattr(net, "tokenizer", None)
    if tokenizer is None or not callable(tokenizer):
        return np.zeros(len(texts), np.int32)
    ids = tokenizer(list(texts), truncation=True, max_length=net.max_seq_length)["input_ids"]
    return np.array([len(one) for one in ids], np.int32)
