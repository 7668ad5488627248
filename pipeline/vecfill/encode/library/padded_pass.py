"""The library's pass over token batches: its own modules, fed by us.

We choose the batches, their order and the padding; the library computes: Transformer, Pooling, Dense, Normalize and
whatever else the model consists of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize

from vecfill.config.model import Model
from vecfill.encode.device.device_feed import Feed
from vecfill.encode.device.forward import Forward
from vecfill.encode.device.precision import PROBE_TEXTS
from vecfill.encode.device.token_batches import token_batches
from vecfill.encode.encoding import Positions
from vecfill.encode.tokens.tokenization import Inputs, Tokenization, TokenizerSpec
from vecfill.encode.tokens.windowing import tokenize_for

_CONSTANT_INPUTS = frozenset({"modality", "prompt_length"})
"""Values that the library passes beside the tokens: the same for all texts."""


class PaddedPass:
    """Computes a batch as a rectangle, as wide as its longest text."""

    batches = staticmethod(token_batches)

    def __init__(self, net: SentenceTransformer, tokenize: Tokenization, constants: dict[str, Any], feed: Feed) -> None:
        """Takes the net, how its tokens are padded, the inputs that are the same for all texts, and the device."""
        self._net, self._tokenize, self._constants, self._feed = net, tokenize, constants, feed

    def __call__(self, inputs: Inputs, rows: Positions) -> torch.Tensor:
        """Returns float32 [len(rows), width] on the device."""
        padded = self._tokenize.padded(inputs, rows)
        moved = [ids.long() for ids in self._feed.to_device(*padded.values())]
        features: dict[str, Any] = dict(zip(padded, moved, strict=True))
        return sentence_vectors(self._net, features | self._constants)


def sentence_vectors(net: SentenceTransformer, features: dict[str, Any]) -> torch.Tensor:
    """Returns float32 [n, width] of the net's inputs; ``truncate_dim`` applies to what is made of them."""
    return torch.Tensor.float(net(features)["sentence_embedding"])


def forward_of(
    net: SentenceTransformer, model: Model, max_tokens: int | None, prompt: str | None, dim: int
) -> Forward | None:
    """Returns a forward pass by the library, or None if only the library can prepare the net's inputs.

    That is so if the first module is not a plain Transformer (StaticEmbedding, CLIP), has its own settings for texts,
    has no fast tokenizer, or gives inputs that differ from ours, such as a chat template's. We compare on this very
    net: both prepare the same texts, in three scripts, an empty one and one longer than any limit.

    Raises:
        ConfigError: as ``tokenize_for``.
    """
    first, tokenizer = net[0], getattr(net, "tokenizer", None)
    if type(first) is not Transformer or first.processing_kwargs or not _can_be_cloned(tokenizer):
        return None
    spec = TokenizerSpec.of(tokenizer)
    tokenize = Tokenization(spec, max_tokens, prompt)
    texts = [*PROBE_TEXTS[:3], "", "a", " ".join(PROBE_TEXTS) * (1 + (max_tokens or 0) // len(PROBE_TEXTS))]
    theirs, constants = inputs_of(net, texts, prompt)
    if not same_inputs(tokenize, texts, theirs):
        return None
    feed, unit = Feed(net.device), isinstance(net[-1], Normalize)
    compute = PaddedPass(net, tokenize, constants, feed)
    return Forward(tokenize_for(model, spec, max_tokens, prompt), compute, dim, feed, unit=unit)


def _can_be_cloned(tokenizer: Any) -> bool:
    return getattr(tokenizer, "is_fast", False) and tokenizer.pad_token_id is not None


def inputs_of(net: SentenceTransformer, texts: list[str], prompt: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the library's inputs for texts, and apart those that are the same for all texts."""
    inputs: dict[str, Any] = dict(net.preprocess(texts, prompt=prompt))
    return inputs, {name: inputs.pop(name) for name in _CONSTANT_INPUTS & inputs.keys()}


def same_inputs(tokenize: Tokenization, texts: list[str], theirs: dict[str, Any]) -> bool:
    """Whether the library's inputs for the texts are ours: the same names and ids."""
    ours: dict[str, npt.NDArray[np.int64]] = tokenize.padded(tokenize(texts), np.arange(len(texts)))
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
