"""Compares our pass with sentence-transformers on hard texts, once for a model, a kind of device and a type."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer

from vecfill.config.model import Model
from vecfill.encode.device.compute_device import resolve_device
from vecfill.encode.device.precision import AGREE_COSINE, fast_bfloat16, lower
from vecfill.encode.library.padded_pass import inputs_of, same_inputs
from vecfill.encode.library.strategy_probe import lowest_cosine, tokens_per_s
from vecfill.encode.library.token_limit import limit_range
from vecfill.encode.library.transformer import TransformerEncoder
from vecfill.encode.model.prompts import row_prompt
from vecfill.encode.native.architecture import MissingWeightError, NotNativeError
from vecfill.encode.native.attention import possible_strategies
from vecfill.encode.native.module_chain import ModuleChain
from vecfill.encode.native.native_encoder import NativeEncoder
from vecfill.encode.native.proof import Proof
from vecfill.encode.row_encoder import is_out_of_memory
from vecfill.encode.tokens.hard_texts import ORDINARY, hard_texts
from vecfill.encode.tokens.tokenization import Tokenization, TokenizerSpec
from vecfill.errors import ConfigError

_log = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

FLOAT32_COSINE, FLOAT32_DIFFERENCE = 0.999999, 1e-5
"""Lowest cosine and largest difference in float32; the difference is of the vector's largest number where that is above
1, since rounding grows with it."""

_BATCH_TOKENS = 512
"""Small batches, so that texts of many lengths meet in some of them."""

_PROMPT = "search_query: "
"""A prompt that a user might give."""


_SLOWER = 0.95
"""Share of the library's rate below which our pass is not worth it; a difference below that is noise."""


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """What the library makes of the texts.

    Attributes:
        proof: what our pass takes from it.
        texts: hard texts as rows; ``ORDINARY`` ones are the queries.
        vectors: float32 [n, dim], of the rows and then of the queries.
        same_tokens: whether our tokens of the texts are the library's.
        rate: tokens a second by the library in the proof's type; 0 on a CPU.
    """

    proof: Proof
    texts: list[str]
    vectors: Vectors
    same_tokens: bool
    rate: float


def prove(model: Model, chain: ModuleChain, folder: Path) -> Proof:
    """Compares both for the model as it is without the user's settings, but for its type.

    One after the other: memory holds one of them at a time. On a GPU every possible strategy is compared and measured.

    Raises:
        ConfigError: the library cannot load the model, or draws a weight at random that its files lack.
        NotNativeError: our pass cannot, since the library prepares texts in its own way.
        Exception: any error of torch in the strategy that computes everywhere.
    """
    plain = Model(
        name=model.name,
        revision=model.revision,
        device=model.device,
        dtype="float32",
        encoder="library",  # so that its tokens are
    )
    device = torch.device(resolve_device(model.device))
    library = TransformerEncoder(plain)
    try:
        reference = _reference(library, plain, _dtype(model, device.type))
    finally:
        _free(library.net)
    if not reference.same_tokens:
        return replace(reference.proof, agrees=False, reason="its tokens differ from the library's")
    first, *others = possible_strategies(chain.architecture, device, getattr(torch, reference.proof.dtype))
    try:
        proofs = [_proof_of(first, reference, plain, chain, folder)]
    except MissingWeightError as error:
        _check_not_drawn(plain, reference, error)
        return replace(reference.proof, agrees=False, reason=str(error))
    except NotNativeError as error:  # remembered: each process would load the library twice to find it out
        return replace(reference.proof, agrees=False, reason=str(error))
    for name in others:
        try:
            proofs.append(_proof_of(name, reference, plain, chain, folder))
        except Exception as error:
            if is_out_of_memory(error):  # else the slower one would be remembered for what another process held
                raise
            _log.info("strategy %s is not possible here: %s", name, error)
    return _chosen(proofs, reference.rate)


def _free(net: SentenceTransformer) -> None:
    """Frees the weights at once: the modules refer to one another, and would wait for the garbage collector."""
    for tensor in (*net.parameters(), *net.buffers()):
        tensor.data = tensor.new_empty(0)


def _proof_of(name: str, reference: _Reference, plain: Model, chain: ModuleChain, folder: Path) -> Proof:
    """Compares one strategy with the library, and measures it if there is a choice."""
    native = NativeEncoder(plain, chain, folder, replace(reference.proof, attention=name))
    rows = native.encode(reference.texts, _BATCH_TOKENS).vectors
    ours = np.concatenate([rows, [native.encode_query(one) for one in ORDINARY]])
    proof = _compared(replace(reference.proof, attention=name), ours, reference.vectors)
    rates = {name: tokens_per_s(native.forward)} if reference.rate and proof.agrees else {}
    return replace(proof, rates=rates)


def _check_not_drawn(plain: Model, reference: _Reference, error: MissingWeightError) -> None:
    """Checks that the library has the weight under another name: else it draws one, with a warning, at each loading.

    Raises:
        ConfigError: the library loads the model anew, and makes other vectors.
    """
    net = TransformerEncoder(plain).net
    again = net.encode(reference.texts, prompt=row_prompt(plain, net.prompts, net.default_prompt_name))
    if lowest_cosine(again, reference.vectors[: len(again)]) < FLOAT32_COSINE:
        raise ConfigError(
            f"model {plain.name} cannot be used: {error}, and sentence-transformers would draw it at random, another "
            "one in each process: fetch or save the model again"
        ) from error


def _chosen(proofs: list[Proof], library: float) -> Proof:
    """Returns the proof of the fastest strategy that is right, or of the library where that is faster."""
    right = [proof for proof in proofs if proof.agrees]
    if not right:
        return proofs[0]
    rates = {name: rate for proof in right for name, rate in proof.rates.items()}
    best = max(right, key=lambda proof: rates.get(proof.attention, 0.0))
    if not library:
        return best
    best = replace(best, rates=rates | {"library": library})
    if rates[best.attention] >= _SLOWER * library:
        return best
    reason = f"it is slower here: {rates[best.attention]:,.0f} tokens/s, and the library {library:,.0f}"
    return replace(best, agrees=False, reason=reason)


def _reference(library: TransformerEncoder, plain: Model, dtype: str) -> _Reference:
    net, (spec, limits) = library.net, _tokenizer(library, plain)
    proof = Proof(
        agrees=True,
        dtype=dtype,
        cosine=1.0,
        difference=0.0,
        max_tokens=library.max_tokens,
        limits=limits,
        tokenizer=spec,
    )
    tokenizer: Any = net.tokenizer
    texts = hard_texts(library.max_tokens, tokenizer.get_added_vocab())
    prompt = row_prompt(plain, net.prompts, net.default_prompt_name)
    rows = net.encode(texts, prompt=prompt, show_progress_bar=False)
    queries = net.encode_query(list(ORDINARY), show_progress_bar=False)
    same = _same_tokens(net, proof, texts)
    rate = 0.0
    if library.device == "cuda" and library.forward is not None:
        lower(net, getattr(torch, dtype))
        rate = tokens_per_s(library.forward)
    return _Reference(proof=proof, texts=texts, vectors=np.concatenate([rows, queries]), same_tokens=same, rate=rate)


def _dtype(model: Model, device: str) -> str:
    if model.dtype == "auto":
        return "bfloat16" if fast_bfloat16(device) else "float32"
    return model.dtype


def _tokenizer(library: TransformerEncoder, plain: Model) -> tuple[TokenizerSpec, tuple[int, int | None]]:
    """The tokenizer that the library makes of the model's files, and the lengths that a user may set."""
    if not library.counts_tokens:
        raise NotNativeError("only the library can prepare its inputs")
    spec, limits = TokenizerSpec.of(library.net.tokenizer), limit_range(plain, library.net)
    if limits[0] == 1:
        raise NotNativeError("its tokenizer adds no special token, so that an empty text has no tokens")
    return spec, limits


def _same_tokens(net: SentenceTransformer, proof: Proof, texts: list[str]) -> bool:
    plain = Tokenization(proof.tokenizer, proof.max_tokens, None)
    prompts = (None, _PROMPT)
    return all(same_inputs(plain.with_prompt(one), texts, inputs_of(net, texts, one)[0]) for one in prompts)


def _compared(proof: Proof, ours: Vectors, theirs: Vectors) -> Proof:
    if ours.shape != theirs.shape:
        return replace(proof, agrees=False, reason=f"its vectors have the shape {ours.shape}, not {theirs.shape}")
    scale = np.maximum(1.0, np.abs(theirs).max(axis=1, keepdims=True))
    difference = float((np.abs(ours - theirs) / scale).max())
    cosine = lowest_cosine(ours, theirs)
    exact = proof.dtype == "float32"
    agrees = cosine >= (FLOAT32_COSINE if exact else AGREE_COSINE) and (not exact or difference <= FLOAT32_DIFFERENCE)
    figures = f"cosine {cosine:.6f}, difference {difference:.1e}"
    reason = "" if agrees else f"its vectors differ from the library's: {figures}"
    return replace(proof, agrees=agrees, reason=reason, cosine=cosine, difference=difference)
