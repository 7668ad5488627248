"""Which type the transformer computes in: the fastest that the device is good at and that leaves the vectors alone."""

from __future__ import annotations

import copy
import logging

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

    On CPUs that need AMX or AVX512-BF16 for it and have neither, bfloat16 is ten times slower.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    amx, avx512 = (
        getattr(torch.cpu, name, lambda: False) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    )
    return bool(amx() or avx512())


def lower(net: SentenceTransformer, dtype: torch.dtype) -> None:
    """Lets the net's first module compute in ``dtype``; what follows stays float32, fed through a hook."""
    net[0].to(dtype)
    net[0].register_forward_hook(_to_float32)


def _to_float32(_module: nn.Module, _inputs: object, features: dict[str, object]) -> dict[str, object]:
    return {
        name: value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in features.items()
    }


def lower_where_it_helps(net: SentenceTransformer) -> str:
    """Turns the net to bfloat16 where the device is fast at it and the vectors agree; returns the type it computes in.

    Costs two passes over eight short texts and, for a moment, a second copy of the transformer.
    """
    if not fast_bfloat16(net.device.type):
        return "float32"
    wanted, spare = _probe(net), copy.deepcopy(net[0])
    lower(net, torch.bfloat16)
    cosine = float(np.min(np.sum(wanted * _probe(net), axis=1)))
    if cosine >= AGREE_COSINE:
        return "bfloat16"
    _log.info("bfloat16 is left alone: a probe's cosine to its float32 vector is %.5f, below %g", cosine, AGREE_COSINE)
    net[0] = spare
    return "float32"


def _probe(net: SentenceTransformer) -> npt.NDArray[np.float32]:
    """Unit vectors of the probe texts, float32 [8, dim]."""
    vectors: torch.Tensor = net.encode(list(PROBE_TEXTS), convert_to_tensor=True, show_progress_bar=False)
    unit: npt.NDArray[np.float32] = nn.functional.normalize(vectors.float()).cpu().numpy()
    return unit
