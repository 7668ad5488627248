"""Which type the transformer computes in: the fastest that the device is good at and that leaves the vectors alone."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

_log = logging.getLogger(__name__)

AGREE_COSINE = 0.999
"""Every probe text's vector must be this close to its float32 one (measured for MiniLM in bfloat16: 0.9999)."""

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
"""Real-looking texts of some thirty tokens, with digits, signs and three scripts."""


def fast_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones.

    CPUs need AMX or AVX512-BF16 for it; without, bfloat16 is ten times slower.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    questions = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, question, bool)()) for question in questions)


def lower(net: SentenceTransformer, dtype: torch.dtype) -> Callable[[], None]:
    """Lets the net's first module compute in ``dtype`` and returns the way back.

    Only weights are cast: buffers, such as the frequencies of rotary positions, are float32 for a reason. What follows
    the first module is cheap, decides the vector to its last digits, and stays float32, fed through a hook.
    """
    wide = [(weight, weight.data) for weight in net[0].parameters()]
    for weight, data in wide:
        weight.data = data.to(dtype) if data.is_floating_point() else data
    hook = net[0].register_forward_hook(_to_float32)

    def back() -> None:
        hook.remove()
        for weight, data in wide:
            weight.data = data

    return back


def _to_float32(_module: nn.Module, _inputs: object, features: dict[str, object]) -> dict[str, object]:
    return {
        name: value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in features.items()
    }


def lower_where_it_helps(net: SentenceTransformer) -> str:
    """Turns the net to bfloat16 where the device is fast at it and the vectors agree; returns the type it computes in.

    Only transformers multiply matrices enough for it. Costs two passes over nine texts.
    """
    if net.transformers_model is None or not fast_bfloat16(net.device.type):
        return "float32"
    wanted = _probe(net)
    back = lower(net, torch.bfloat16)
    try:
        cosine = float(np.min(np.sum(wanted * _probe(net), axis=1)))
    except RuntimeError as exc:
        _log.info("float32: the model does not compute in bfloat16 (%s)", exc)
    else:
        if cosine >= AGREE_COSINE:
            return "bfloat16"
        _log.info("float32: in bfloat16 a probe's cosine is %.5f, below %g", cosine, AGREE_COSINE)
    back()
    return "float32"


def _probe(net: SentenceTransformer) -> npt.NDArray[np.float32]:
    """Unit vectors of the probe texts and of all of them in one, float32 [9, dim]."""
    texts = [*PROBE_TEXTS, " ".join(PROBE_TEXTS)]
    vectors: torch.Tensor = net.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    unit: npt.NDArray[np.float32] = nn.functional.normalize(vectors.float()).cpu().numpy()
    return unit
