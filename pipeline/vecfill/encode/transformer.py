"""The real thing: a SentenceTransformer, loaded once and told exactly what to do.

Importing this module imports torch and sentence-transformers (5–12 s on two cores); ``Model.load`` does so only when
a model is wanted. Pooling, normalisation, prompts and truncation are left to the library: its vectors are ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from vecfill.config.model import Model
from vecfill.encode.encoder import MOST_TOKENS, Encoding
from vecfill.encode.forward import forward_of
from vecfill.encode.model_location import locate_model
from vecfill.encode.precision import lower, lower_where_it_helps
from vecfill.errors import ConfigError

_log = logging.getLogger(__name__)

_LOAD_ERRORS = (OSError, ValueError, ImportError, KeyError, SafetensorError)
"""What transformers and sentence-transformers raise for missing weights, unknown architectures, refused code, …"""

LIBRARY_BATCH = {"cpu": 32, "cuda": 256}
"""Texts a batch where the library does it all: its own default, and what fills a GPU better."""

LIBRARY_TOKENS = MOST_TOKENS // 256
"""Tokens that a text counts for where memory is short and nobody has counted them."""

_UNLIMITED = 10**9
"""Tokenizers without a length of their own report 10^30."""


class TransformerEncoder:
    """Encodes texts with a SentenceTransformer.

    Attributes:
        dim: length of the vectors.
        device: ``cuda`` or ``cpu``, as resolved once at loading.
        dtype: that the transformer computes in, such as ``float32``; the vectors given out are always float32.
        max_tokens: the length in tokens that texts are cut to; None where the model has no limit.
    """

    def __init__(self, model: Model, threads: int | None = None) -> None:
        """Loads the model.

        Args:
            model: what to load.
            threads: CPU threads for torch, of which Ray would leave one to a GPU actor; None keeps torch's number.

        Raises:
            ConfigError: no such model, weights or device; an unknown prompt name; truncate_dim or max_tokens beyond
                what the model has.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = _resolve_device(model.device)
        self._net = _load(model, self.device)
        self.dim = _output_dimension(model, self._net)
        self.max_tokens = _limit_tokens(model, self._net)
        self._prompt = _resolve_prompt(model, self._net)
        self._asks_as_configured = model.prompt is not None or model.prompt_name is not None
        self.dtype = _settle_dtype(model, self._net)
        self._forward = forward_of(self._net, self.max_tokens, self._prompt, self.dim)
        if self._forward is None:
            _log.info("only its library can prepare this model's texts: batches are the library's, tokens uncounted")

    def encode(self, texts: list[str], most_tokens: int) -> Encoding:
        """Returns the vectors of ``SentenceTransformer.encode`` for the texts, as float32 [n, dim].

        Raises:
            Exception: whatever the tokenizer or torch raises; nothing is kept of the call.
        """
        if self._forward is None:
            return self._encode_by_library(texts, most_tokens)
        tokens = self._forward.tokenize(texts)
        truncated = np.greater(tokens.n_tokens, tokens.lengths)
        return Encoding(vectors=self._forward(tokens, most_tokens), n_tokens=tokens.n_tokens, truncated=truncated)

    def encode_query(self, text: str) -> npt.NDArray[np.float32]:
        """Returns the float32 vector [dim] of a search query.

        The model's own query prompt and route are used (``SentenceTransformer.encode_query``), unless the
        configuration names a prompt: then rows and queries get the same one.
        """
        arguments: dict[str, Any] = {"convert_to_tensor": True, "show_progress_bar": False}
        if self._asks_as_configured:
            tensor = self._net.encode([text], prompt=self._prompt, **arguments)
        else:
            tensor = self._net.encode_query([text], **arguments)
        vector: npt.NDArray[np.float32] = _to_host(tensor)[0]
        return vector

    def _encode_by_library(self, texts: list[str], most_tokens: int) -> Encoding:
        """For models whose texts only the library knows how to prepare; tokens are then not counted."""
        batch = max(1, min(LIBRARY_BATCH[self.device], most_tokens // LIBRARY_TOKENS))
        tensor = self._net.encode(
            texts, batch_size=batch, prompt=self._prompt, convert_to_tensor=True, show_progress_bar=False
        )
        vectors = _to_host(tensor).reshape(len(texts), self.dim)
        return Encoding(vectors=vectors, n_tokens=None, truncated=np.zeros(len(texts), dtype=np.bool_))


def _to_host(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    """Casts on the device, then copies once: NumPy has no bfloat16."""
    array: npt.NDArray[np.float32] = tensor.to(torch.float32).cpu().contiguous().numpy()
    return array


def _resolve_device(device: str) -> str:
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ConfigError("--device is cuda but torch finds no CUDA device: use auto or cpu, or check the driver")
    return ("cuda" if available else "cpu") if device == "auto" else device


def _load(model: Model, device: str) -> SentenceTransformer:
    """Builds the SentenceTransformer in float32, whatever dtype the weights were saved in."""
    location = locate_model(model)
    try:
        with _quiet():
            return SentenceTransformer(
                location,
                device=device,
                revision=model.revision,
                trust_remote_code=model.trust_remote_code,
                local_files_only=Path(location).is_absolute(),
                truncate_dim=model.truncate_dim,
                model_kwargs={"dtype": "float32"},
            )
    except _LOAD_ERRORS as exc:
        reason = " ".join(str(exc).split())
        raise ConfigError(f"model {model.name} cannot be loaded: {type(exc).__name__}: {reason[:400]}") from exc


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries' bars and notes off stderr, where our own progress goes; their errors still show."""
    bars = transformers_logging.is_progress_bar_enabled()
    notes = logging.getLogger("sentence_transformers")
    level = notes.level
    transformers_logging.disable_progress_bar()
    notes.setLevel(logging.ERROR)
    try:
        yield
    finally:
        notes.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _output_dimension(model: Model, net: SentenceTransformer) -> int:
    """Asks the modules; some (CLIP) do not know, and then a text is encoded to see."""
    truncate_dim, net.truncate_dim = net.truncate_dim, None
    width = net.get_embedding_dimension() or net.encode(["a"], show_progress_bar=False).shape[1]
    net.truncate_dim = truncate_dim
    if model.truncate_dim is not None and model.truncate_dim > width:
        raise ConfigError(
            f"--truncate-dim is {model.truncate_dim} but model {model.name} gives only {width} dimensions: "
            f"lower it to at most {width} or leave it out"
        )
    return int(min(width, truncate_dim or width))


def _resolve_prompt(model: Model, net: SentenceTransformer) -> str | None:
    """Returns the text that goes before every text, by the library's own rules."""
    if model.prompt is not None:
        return model.prompt
    name = model.prompt_name or net.default_prompt_name
    if name is None:
        return None
    if name not in net.prompts:
        known = ", ".join(sorted(net.prompts)) or "none"
        raise ConfigError(f"--prompt-name is {name!r} but model {model.name} has only these prompts: {known}")
    prompt: str = net.prompts[name]
    return prompt


def _settle_dtype(model: Model, net: SentenceTransformer) -> str:
    """Lets the transformer compute in the type that was asked for, or in the one that suits the device."""
    if model.dtype == "auto":
        return lower_where_it_helps(net)
    if model.dtype != "float32":
        lower(net, getattr(torch, model.dtype))
    return model.dtype


def _limit_tokens(model: Model, net: SentenceTransformer) -> int | None:
    """Applies ``--max-tokens`` and returns the length that texts are cut to, None without a limit."""
    if model.max_tokens is not None:
        _check_limit(model, model.max_tokens, net)
        net.max_seq_length = model.max_tokens
    limit = net.max_seq_length
    return int(limit) if limit is not None and limit < _UNLIMITED else None


def _check_limit(model: Model, wanted: int, net: SentenceTransformer) -> None:
    if net.transformers_model is None:
        raise ConfigError(f"--max-tokens is {wanted} but model {model.name} has no length: leave it out")
    lowest = 1 + (net.tokenizer.num_special_tokens_to_add() if getattr(net, "tokenizer", None) is not None else 0)
    highest = _positions(net)
    if not lowest <= wanted <= (highest or wanted):
        raise ConfigError(
            f"--max-tokens is {wanted} but model {model.name} takes {lowest} to {highest or 'any'} tokens: "
            "choose a number between"
        )


def _positions(net: SentenceTransformer) -> int | None:
    """Returns how many positions the model was built with, None where that is unknown or endless (XLNet says -1).

    RoBERTa and its kin count from behind the padding index: 514 positions hold 512 tokens.
    """
    limit = getattr(net.config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return None
    for name, module in net.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return limit - int(module.padding_idx) - 1
    return limit
