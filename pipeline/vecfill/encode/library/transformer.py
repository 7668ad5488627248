"""A local model: a SentenceTransformer, loaded once.

Importing this module imports torch and sentence-transformers (5–12 s on two cores); ``Model.load`` does so only when a
model is needed. The library does pooling, normalisation, prompts and truncation, so its vectors are ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from vecfill.config.model import Model
from vecfill.encode.block_progress import Advance, no_progress
from vecfill.encode.device.compute_device import resolve_device
from vecfill.encode.device.forward import Forward
from vecfill.encode.device.learned_batches import MAX_BATCH_TOKENS, LearnedBatches
from vecfill.encode.device.precision import lower, lower_where_it_helps
from vecfill.encode.encoding import Encoding, error_line
from vecfill.encode.library.library_strategy import StrategyChoice
from vecfill.encode.library.padded_pass import forward_of
from vecfill.encode.library.token_limit import limit_tokens
from vecfill.encode.model.model_location import locate_model
from vecfill.encode.model.prompts import row_prompt
from vecfill.encode.row_encoder import is_out_of_memory
from vecfill.encode.tokens.windowing import Windowing
from vecfill.errors import ConfigError

_log = logging.getLogger(__name__)

_LOAD_ERRORS = (
    *(OSError, ValueError, ImportError, KeyError, TypeError, EOFError, RuntimeError),
    *(SafetensorError, UnpicklingError),
)
"""Raised by transformers and sentence-transformers for missing or damaged weights, those of other sizes than the
configuration says, unknown architectures, refused code, …"""

LIBRARY_BATCH = {"cpu": 32, "cuda": 256}
"""Texts a batch where the library batches: its default on a CPU, and a size that fills a GPU better."""

LIBRARY_TOKENS = MAX_BATCH_TOKENS // 256
"""Tokens assumed for a text where memory is short and nothing counts them."""


class TransformerEncoder:
    """Encodes texts with a SentenceTransformer.

    Attributes:
        dim: length of the vectors.
        device: ``cuda`` or ``cpu``, as resolved once at loading.
        way: ``library``; on a GPU with the strategy that was the fastest, such as ``library varlen``.
        dtype: type that the transformer computes in, such as ``float32``; the returned vectors are always float32.
        max_tokens: length in tokens that texts are cut to; None if the model has no limit.
        net: the SentenceTransformer.
        forward: from texts or tokens to vectors, by the library's modules; None if only the library can prepare texts.
    """

    def __init__(self, model: Model) -> None:
        """Loads the model.

        Raises:
            ConfigError: no such model, weights or device; an unknown prompt name; truncate_dim or max_tokens outside
                the model's range; windows that it does not allow.
        """
        self.device = resolve_device(model.device)
        self.net = _load(model, self.device)
        self.dim = _output_dimension(model, self.net)
        self.max_tokens = limit_tokens(model, self.net)
        self._prompt = row_prompt(model, self.net.prompts, self.net.default_prompt_name)
        self._asks_as_configured = model.prompt is not None or model.prompt_name is not None
        self.way, self.learned = "library", LearnedBatches()
        self.forward = forward_of(self.net, model, self.max_tokens, self._prompt, self.dim)
        self._long_queries = _long_queries(model, self.net, self.forward)
        if self.forward is None:
            _log.info("only sentence-transformers can prepare this model's inputs: tokens are not counted")
        if self.forward is None or self.device == "cpu" or model.dtype == "float32":
            self.dtype = _set_dtype(model, self.net)
        else:
            self.dtype = self._choose_strategy(model, self.forward)
        if self.forward is not None:
            self.learned = self.forward.remember(model, self.dtype, self.way)

    def _choose_strategy(self, model: Model, padded: Forward) -> str:
        """Sets the type, and in 16 bits the fastest pass that is right; returns the type."""
        choice = StrategyChoice(model, self.net, padded, self.max_tokens)
        dtype = _set_dtype(model, self.net)
        if dtype != "float32":
            self.forward, strategy = choice.fastest(self._prompt)
            self.way = f"library {strategy}"
        return dtype

    @property
    def counts_tokens(self) -> bool:
        """Whether we prepare the texts; else only the library can."""
        return self.forward is not None

    def encode(self, texts: list[str], max_batch_tokens: int, advance: Advance = no_progress) -> Encoding:
        """Returns the vectors of ``SentenceTransformer.encode`` for the texts, as float32 [n, dim].

        Raises:
            Exception: any error of the tokenizer or torch; the call leaves nothing behind.
        """
        if self.forward is None:
            return self._encode_by_library(texts, max_batch_tokens)
        return self.forward.encode(texts, max_batch_tokens, advance)

    def encode_query(self, text: str) -> npt.NDArray[np.float32]:
        """Returns the float32 vector [dim] of a search query.

        Uses the model's own query prompt and route (``SentenceTransformer.encode_query``), unless the configuration
        sets a prompt: then rows and queries get the same one. A long query is cut as a long row is.
        """
        if self.forward and self._long_queries and (windows := self._long_queries([text])).windows[0] > 1:
            mean: npt.NDArray[np.float32] = self.forward(windows, MAX_BATCH_TOKENS)[0]
            return mean
        arguments: dict[str, Any] = {"convert_to_tensor": True, "show_progress_bar": False}
        if self._asks_as_configured:
            tensor = self.net.encode([text], prompt=self._prompt, **arguments)
        else:
            tensor = self.net.encode_query([text], **arguments)
        vector: npt.NDArray[np.float32] = _to_host(tensor)[0]
        return vector

    def _encode_by_library(self, texts: list[str], max_batch_tokens: int) -> Encoding:
        """Encodes with a model whose inputs only the library can prepare; tokens are then not counted."""
        batch = max(1, min(LIBRARY_BATCH[self.device], max_batch_tokens // LIBRARY_TOKENS))
        tensor = self.net.encode(
            texts, batch_size=batch, prompt=self._prompt, convert_to_tensor=True, show_progress_bar=False
        )
        return Encoding.of(_to_host(tensor).reshape(len(texts), self.dim))


def _long_queries(model: Model, net: SentenceTransformer, forward: Forward | None) -> Windowing | None:
    """Cuts long queries into windows; None where they are truncated.

    Raises:
        ConfigError: windows are wanted, and only the library can prepare the model's inputs.
    """
    if model.long == "truncate":
        return None
    if forward is None or not isinstance(forward.tokenize, Windowing):
        raise ConfigError(
            f"--long is {model.long} but only sentence-transformers can prepare the inputs of model {model.name}, "
            "and it truncates: leave it out"
        )
    own = model.prompt is not None or model.prompt_name is not None
    return forward.tokenize if own else forward.tokenize.with_prompt(net.prompts.get("query"))


def _to_host(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    """Casts on the device, then copies once: NumPy has no bfloat16."""
    array: npt.NDArray[np.float32] = tensor.to(torch.float32).cpu().contiguous().numpy()
    return array


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
        if is_out_of_memory(exc):
            raise
        raise ConfigError(f"model {model.name} cannot be loaded: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    if isinstance(exc, UnpicklingError):  # torch's own message advises to run what is in the file
        return "its .bin file is damaged, or holds more than weights: fetch it again, or give model.safetensors"
    return error_line(exc, 400)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries' progress bars and warnings off stderr, where our progress goes; their errors still show."""
    bars = transformers_logging.is_progress_bar_enabled()
    logger = logging.getLogger("sentence_transformers")
    level = logger.level
    transformers_logging.disable_progress_bar()
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _output_dimension(model: Model, net: SentenceTransformer) -> int:
    """Asks the modules; where they do not know (CLIP), encodes a text to find out."""
    truncate_dim, net.truncate_dim = net.truncate_dim, None
    width = net.get_embedding_dimension() or net.encode(["a"], show_progress_bar=False).shape[1]
    net.truncate_dim = truncate_dim
    if model.truncate_dim is not None and model.truncate_dim > width:
        raise ConfigError(
            f"--truncate-dim is {model.truncate_dim} but model {model.name} gives only {width} dimensions: "
            f"lower it to at most {width} or leave it out"
        )
    return int(min(width, truncate_dim or width))


def _set_dtype(model: Model, net: SentenceTransformer) -> str:
    """Makes the transformer compute in the configured type, or for ``auto`` in the best one for the device."""
    if model.dtype == "auto":
        return lower_where_it_helps(net)
    if model.dtype != "float32":
        lower(net, getattr(torch, model.dtype))
    return model.dtype
