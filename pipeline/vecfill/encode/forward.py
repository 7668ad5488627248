"""The forward pass over token batches: the library's own modules, fed by us.

We choose the batches, their order and the padding; the library computes: Transformer, Pooling, Dense, Normalize and
whatever else the model consists of.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.util import truncate_embeddings

from vecfill.encode.block_progress import Advance, no_progress
from vecfill.encode.compute_threads import ComputeThreads
from vecfill.encode.encoding import Positions
from vecfill.encode.precision import PROBE_TEXTS
from vecfill.encode.token_batches import BatchSizeSearch, Lengths, token_batches
from vecfill.encode.tokenization import Tokenization, Tokens

CPU_BATCH_TOKENS = (512, 1_024, 2_048)
"""Tokens a batch on a CPU core: these stay in its cache."""

CUDA_BATCH_TOKENS = (16_384, 32_768, 65_536)
"""Tokens a batch on a GPU: enough to fill it with a small model, few enough for the memory beside a large one."""

Batch = tuple[int, Positions]
"""The batch size under trial, and the positions of the batch's texts."""

_CONSTANT_INPUTS = frozenset({"modality", "prompt_length"})
"""Values that the library passes beside the tokens: the same for all texts."""


class Forward:
    """Encodes tokens, a batch at a time, and finds the best batch size.

    Several threads may tokenize at once; one set of compute threads encodes for all of them.
    """

    def __init__(self, net: SentenceTransformer, tokenize: Tokenization, constants: dict[str, Any], dim: int) -> None:
        """See ``forward_of``."""
        self.tokenize = tokenize
        self._net, self._constants, self._dim = net, constants, dim
        on_gpu = net.device.type == "cuda"
        self._search = BatchSizeSearch(CUDA_BATCH_TOKENS if on_gpu else CPU_BATCH_TOKENS)
        self._threads = ComputeThreads(None if on_gpu else torch.get_num_threads())

    def __call__(
        self, tokens: Tokens, max_batch_tokens: int, advance: Advance = no_progress
    ) -> npt.NDArray[np.float32]:
        """Returns float32 [n, dim] for the tokens of n texts.

        Args:
            tokens: from ``tokenize``.
            max_batch_tokens: largest batch in tokens, padding included.
            advance: called after each batch, with its share of all tokens: they, not the texts, cost the time.
        """
        total = max(1, int(tokens.lengths.sum()))

        def compute(batch: Batch) -> None:
            self._compute(tokens, batch, out)
            advance(int(tokens.lengths[batch[1]].sum()) / total)

        out = torch.empty((len(tokens.lengths), self._dim), device=self._net.device)
        batches = self._batches(tokens.lengths, max_batch_tokens)
        self._threads.for_each(batches, compute)
        vectors: npt.NDArray[np.float32] = out.cpu().numpy()
        return vectors

    def _batches(self, lengths: Lengths, max_batch_tokens: int) -> Iterator[Batch]:
        """Yields token batches, each with the batch size under trial; 0 where memory allows only a smaller one."""
        size = 0

        def next_size() -> int:
            nonlocal size
            size = self._search.next()
            return min(max_batch_tokens, size)

        for rows in token_batches(lengths, next_size):
            yield size if size <= max_batch_tokens else 0, rows

    @torch.inference_mode()
    def _compute(self, tokens: Tokens, batch: Batch, out: torch.Tensor) -> None:
        """Writes the vectors of a batch to ``out``."""
        (size, rows), started = batch, time.perf_counter()
        out[torch.from_numpy(rows).to(out.device)] = self._vectors(tokens, rows)
        if size and self._search.searching:
            if out.is_cuda:
                torch.cuda.synchronize()
            self._search.record(size, int(tokens.lengths[rows].sum()), time.perf_counter() - started)

    def _vectors(self, tokens: Tokens, rows: Positions) -> torch.Tensor:
        """Returns float32 [len(rows), dim] on the device."""
        inputs = self.tokenize.padded(tokens, rows)
        features: dict[str, Any] = {name: torch.from_numpy(ids).to(self._net.device) for name, ids in inputs.items()}
        vectors = self._net(features | self._constants)["sentence_embedding"]
        if self._net.truncate_dim is not None:
            vectors = truncate_embeddings(vectors, self._net.truncate_dim)
        return torch.Tensor.float(vectors)


def forward_of(net: SentenceTransformer, max_tokens: int | None, prompt: str | None, dim: int) -> Forward | None:
    """Returns our forward pass, or None if only the library can prepare the net's inputs.

    That is so if the first module is not a plain Transformer (StaticEmbedding, CLIP), has its own settings for texts,
    has no fast tokenizer, or gives inputs that differ from ours, such as a chat template's. We compare on this very
    net: both prepare the same texts, in three scripts, an empty one and one longer than any limit.
    """
    first, tokenizer = net[0], getattr(net, "tokenizer", None)
    if type(first) is not Transformer or first.processing_kwargs or not _can_be_cloned(tokenizer):
        return None
    tokenize = Tokenization(tokenizer, max_tokens, prompt)
    texts = [*PROBE_TEXTS[:3], "", "a", " ".join(PROBE_TEXTS) * (1 + (max_tokens or 0) // len(PROBE_TEXTS))]
    theirs: dict[str, Any] = dict(net.preprocess(texts, prompt=prompt))
    constants = {name: theirs.pop(name) for name in _CONSTANT_INPUTS & theirs.keys()}
    ours = tokenize.padded(tokenize(texts), np.arange(len(texts)))
    return Forward(net, tokenize, constants, dim) if _same(ours, theirs) else None


def _can_be_cloned(tokenizer: Any) -> bool:
    return getattr(tokenizer, "is_fast", False) and tokenizer.pad_token_id is not None


def _same(ours: dict[str, npt.NDArray[np.int64]], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
