"""How many tokens a second: our encoder, and ``SentenceTransformer.encode`` at its best on the same device."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vecfill.bench.gpu.budget import Budget
from vecfill.bench.gpu.shapes import Device, Shape, special_tokens, words_of, written
from vecfill.bench.matrix_rate import layer_shapes, matrix_rate, parameters
from vecfill.config.model import Model
from vecfill.encode.device.learned_batches import MAX_BATCH_TOKENS
from vecfill.encode.encoding import error_line
from vecfill.encode.load import load_model
from vecfill.encode.row_encoder import is_out_of_memory

_log = logging.getLogger(__name__)

_BATCHES = (64, 256, 1_024)
"""Texts a batch that the library is tried with."""

_ATTENTIONS = {"sdpa": None, "flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
"""The library's attentions, with the packages that they need."""

MEASURED_S = 4.0
"""Most seconds for each side's figures of a length."""

_SHARE = 0.85
"""Share of the whole time behind which no further model is measured."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured of each shape.

    Attributes:
        lengths: tokens of the texts.
        tokens: of all texts of one length.
    """

    lengths: tuple[int, ...] = (20, 50, 128, 512)
    tokens: int = 100_000


def speed(shapes: tuple[Shape, ...], sizes: Sizes, folder: Path, device: Device, budget: Budget) -> Any:
    """Returns a line for each shape and length; each shape gets an equal part of the time that is left."""
    lines: list[dict[str, Any]] = []
    for number, shape in enumerate(shapes):
        if budget.allows(_SHARE, f"speed of {shape.name}"):
            seconds = (_SHARE * budget.seconds - budget.spent) / (len(shapes) - number)
            try:
                lines.extend(_lines(shape, sizes, folder / shape.name, device, seconds))
            except Exception as error:  # such as a model that does not fit: the others' figures are worth having
                _log.exception("speed of %s failed", shape.name)
                budget.left_out.append(f"speed of {shape.name}: {error_line(error)}")
    return lines


def _lines(shape: Shape, sizes: Sizes, folder: Path, device: Device, seconds: float) -> Iterator[Any]:
    until = time.monotonic() + seconds
    place = written(shape, folder, device)
    encoder: Any = load_model(Model(name=str(place), device=device))
    loaded = time.monotonic()
    each = min(MEASURED_S, max(0.0, until - loaded) / (2 * len(sizes.lengths)))
    texts = {length: texts_of(shape, length, sizes.tokens) for length in sizes.lengths}
    ours = [_ours(encoder, some, each) for some in texts.values()]
    facts = {"model": shape.name, "way": encoder.way, "dtype": encoder.dtype, **_rates(place, device, encoder.dtype)}
    del encoder
    library = _library(place, texts, device, each)
    for length, mine, theirs in zip(sizes.lengths, ours, library, strict=True):
        line = {**facts, "tokens": length, **mine, "library": theirs}
        best = max(theirs.values(), default=0.0)
        yield line | {
            "ratio": mine["encode_tokens_per_s"] / best if best else None,
            "share": mine["device_tokens_per_s"] * 2 * facts["parameters"] / facts["matrix_flops"],
        }


def texts_of(shape: Shape, length: int, tokens: int) -> list[str]:
    """Returns texts of one length in tokens, special ones included."""
    words, draw = words_of(shape), np.random.default_rng(3)
    count = length - special_tokens(shape)
    chosen = draw.integers(0, len(words), (max(2, tokens // length), count))
    return [" ".join(words[at] for at in row) for row in chosen.tolist()]


def _ours(encoder: Any, texts: list[str], seconds: float) -> dict[str, float]:
    """The device alone, which gets tokens, and the whole way from texts."""
    forward = encoder.forward
    tokens = forward.tokenize(texts)
    total = int(tokens.lengths.sum())
    return {
        "device_tokens_per_s": total / _best(lambda: forward(tokens, MAX_BATCH_TOKENS), seconds / 2),
        "encode_tokens_per_s": total / _best(lambda: encoder.encode(texts, MAX_BATCH_TOKENS), seconds / 2),
        "tokenize_tokens_per_s": total / _best(lambda: forward.tokenize(texts), seconds / 8),
    }


def _best(work: Any, seconds: float) -> float:
    """The best time of work that is repeated for some seconds, behind a first time that warms up; at least one."""
    started = time.perf_counter()
    work()
    first = time.perf_counter() - started
    best, until = float("inf"), started + max(seconds, 2 * first)
    while time.perf_counter() < until or best == float("inf"):
        again = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - again)
    return best


def _rates(place: Path, device: Device, dtype: str) -> dict[str, Any]:
    """The model's parameters in matrix products, and the device's FLOP a second at its shapes."""
    import torch
    from sentence_transformers import SentenceTransformer

    net = SentenceTransformer(str(place), device="cpu")
    return {
        "parameters": parameters(net),
        "matrix_flops": matrix_rate(layer_shapes(net), getattr(torch, dtype), device),
    }


def _library(place: Path, texts: dict[int, list[str]], device: Device, seconds: float) -> list[dict[str, float]]:
    """Tokens a second of ``encode`` by length: for each attention that is there, at its best batch size."""
    import torch
    from sentence_transformers import SentenceTransformer

    found: list[dict[str, float]] = [{} for _ in texts]
    names = [name for name, package in _ATTENTIONS.items() if package is None or find_spec(package)]
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    for name in names:
        try:
            settings = {"attn_implementation": name, "dtype": dtype}
            net = SentenceTransformer(str(place), device=device, model_kwargs=settings)
            for (length, some), rates in zip(texts.items(), found, strict=True):
                rates[name] = len(some) * length / _best_batch(net, some, seconds / len(names))
        except (RuntimeError, ImportError, ValueError) as error:
            _log.warning("the library cannot compute %s with %s: %s", place.name, name, error)
    return found


def _best_batch(net: Any, texts: list[str], seconds: float) -> float:
    """The seconds of the best batch size that fits; at least the first is tried."""
    until, best = time.perf_counter() + seconds, float("inf")
    for number, size in enumerate(_BATCHES):
        if number and time.perf_counter() > until:
            break
        encode = partial(net.encode, texts, batch_size=size, show_progress_bar=False)
        try:
            best = min(best, _best(encode, seconds / len(_BATCHES)))
        except RuntimeError as error:
            if not number or not is_out_of_memory(error):
                raise
            break
    return best
