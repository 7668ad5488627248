"""Chooses the type that the transformer computes in: bfloat16 if the device is fast at it and the vectors agree."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_log = logging.getLogger(__name__)

_PRODUCTS = 9
"""Matrix products of each type: enough for one that no other process disturbs."""

_GAIN = 1.1
"""Smallest gain in speed for which a coarser type is worth it."""

AGREE_COSINE = 0.999
"""Lowest cosine between a probe text's vector and its float32 vector (measured for MiniLM in bfloat16: 0.9999)."""

PROBE_TEXTS = tuple(
    f"Senior {role} ({kind}), reports to the head of {area} in {place}; grade {number}, from €{number}0,000 a year."
    for number, (role, kind, area, place) in enumerate(
        [
            ("nurse", "night shift", "intensive care", "Leeds"),
            ("data engineer", "remote", "platform", "Zürich"),
            ("welder", "part time", "production", "Łódź"),
            ("teacher of physics", "fixed term", "sciences", "東京"),
            ("account executive", "on site", "sales", "São Paulo"),
            ("baker", "apprentice", "operations", "Lyon"),
            ("legal counsel", "hybrid", "compliance", "New York"),
            ("ranger", "seasonal", "wildlife", "Nairobi"),
        ],
        start=3,
    )
)
"""Realistic texts of some thirty tokens, with digits, signs and three scripts."""


def fast_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones.

    A CPU needs AMX or AVX512-BF16; without them bfloat16 is ten times slower. With AVX512-BF16 alone we measure: in a
    virtual machine that hides AMX, a core did 98 GFLOP/s in bfloat16 and 178 in float32.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if getattr(torch.cpu, "_is_amx_tile_supported", bool)():
        return True
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()) and bfloat16_wins()


@torch.inference_mode()
def bfloat16_wins() -> bool:
    """Multiplies matrices of a small model's size in both types, in turns; the best CPU times decide. Takes some 0.1 s.

    On one thread: several would wait for one another on a busy machine.
    """
    threads, best = torch.get_num_threads(), {torch.float32: math.inf, torch.bfloat16: math.inf}
    torch.set_num_threads(1)
    try:
        for dtype in tuple(best) * _PRODUCTS:
            tokens, weights = torch.ones(512, 384, dtype=dtype), torch.ones(1536, 384, dtype=dtype)
            started = time.thread_time()
            nn.functional.linear(tokens, weights)
            best[dtype] = min(best[dtype], time.thread_time() - started)
    finally:
        torch.set_num_threads(threads)
    return best[torch.float32] > _GAIN * best[torch.bfloat16]


def lower(net: SentenceTransformer, dtype: torch.dtype) -> Callable[[], None]:
    """Makes the net's first module compute in ``dtype`` and returns a function that undoes it.

    Only weights are cast: buffers, such as the frequencies of rotary positions, need float32. The later modules are
    cheap and decide the vector's last digits, so they stay float32; a hook casts their input.
    """
    wide = [(weight, weight.data) for weight in net[0].parameters()]
    for weight, data in wide:
        weight.data = data.to(dtype) if data.is_floating_point() else data
    hook = net[0].register_forward_hook(_to_float32)

    def undo() -> None:
        hook.remove()
        for weight, data in wide:
            weight.data = data

    return undo


def _to_float32(_module: nn.Module, _inputs: object, features: dict[str, object]) -> dict[str, object]:
    return {
        name: value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in features.items()
    }


def lower_where_it_helps(net: SentenceTransformer) -> str:
    """Casts the net to bfloat16 if the device is fast at it and the vectors agree; returns the type it computes in.

    Only transformers gain from it. Costs two passes over nine texts.
    """
    if net.transformers_model is None or not fast_bfloat16(net.device.type):
        return "float32"
    wanted = _probe(net)
    undo = lower(net, torch.bfloat16)
    try:
        cosine = float(np.min(np.sum(wanted * _probe(net), axis=1)))
    except RuntimeError as exc:
        _log.info("dtype float32: the model cannot compute in bfloat16 (%s)", exc)
    else:
        if cosine >= AGREE_COSINE:
            return "bfloat16"
        _log.info("dtype float32: in bfloat16 a probe text's cosine is %.5f, below %g", cosine, AGREE_COSINE)
    undo()
    return "float32"


def _probe(net: SentenceTransformer) -> npt.NDArray[np.float32]:
    """Returns unit vectors of the probe texts and of all of them joined, float32 [9, dim]."""
    texts = [*PROBE_TEXTS, " ".join(PROBE_TEXTS)]
    vectors: torch.Tensor = net.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    unit: npt.NDArray[np.float32] = nn.functional.normalize(vectors.float()).cpu().numpy()
    return unit
