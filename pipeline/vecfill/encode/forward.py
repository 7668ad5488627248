"""The forward pass over token batches: the library's own modules, fed by us.

Padding, order and the batch are ours; what is computed is the library's: Transformer, Pooling, Dense, Normalize and
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

from vecfill.encode.precision import PROBE_TEXTS
from vecfill.encode.thread_teams import Teams
from vecfill.encode.token_batches import BudgetSearch, Lengths, Positions, token_batches
from vecfill.encode.tokenization import Tokenization, Tokens

CPU_BUDGETS = (512, 1_024, 2_048)
"""Tokens a batch on a CPU core: these stay in its cache."""

CUDA_BUDGETS = (16_384, 32_768, 65_536)
"""Tokens a batch on a GPU: enough to fill it with a small model, little enough for a large one's memory."""

Batch = tuple[int, Positions]
"""The budget that is tried with it, and the positions of its texts."""

_MARKS = frozenset({"modality", "prompt_length"})
"""What the library notes beside a model's inputs: the same for all texts."""


class Forward:
    """Encodes tokens, a batch at a time, and learns how large a batch should be.

    Calls from several threads tokenize side by side; what they tokenized is computed by one set of ``Teams``.
    """

    def __init__(self, net: SentenceTransformer, tokenize: Tokenization, marks: dict[str, Any], dim: int) -> None:
        """See ``forward_of``."""
        self.tokenize = tokenize
        self._net, self._marks, self._dim = net, marks, dim
        on_gpu = net.device.type == "cuda"
        self._search = BudgetSearch(CUDA_BUDGETS if on_gpu else CPU_BUDGETS)
        self._teams = Teams(None if on_gpu else torch.get_num_threads())

    def __call__(self, tokens: Tokens, most: int) -> npt.NDArray[np.float32]:
        """Returns float32 [n, dim] for the tokens of n texts.

        Args:
            tokens: from ``tokenize``.
            most: tokens that a batch may have, padding included.
        """
        out = torch.empty((len(tokens.lengths), self._dim), device=self._net.device)
        self._teams.each(self._batches(tokens.lengths, most), lambda batch: self._compute(tokens, batch, out))
        found: npt.NDArray[np.float32] = out.cpu().numpy()
        return found

    def _batches(self, lengths: Lengths, most: int) -> Iterator[Batch]:
        """Token batches, each with the budget that was tried with it; 0 where memory allows less."""
        budget = 0

        def ask() -> int:
            nonlocal budget
            budget = self._search.next()
            return min(most, budget)

        for rows in token_batches(lengths, ask):
            yield budget if budget <= most else 0, rows

    @torch.inference_mode()
    def _compute(self, tokens: Tokens, batch: Batch, out: torch.Tensor) -> None:
        """Fills in the vectors of a batch."""
        (budget, rows), started = batch, time.perf_counter()
        out[torch.from_numpy(rows).to(out.device)] = self._vectors(tokens, rows)
        if budget and self._search.searching:
            if out.is_cuda:
                torch.cuda.synchronize()
            self._search.took(budget, int(tokens.lengths[rows].sum()), time.perf_counter() - started)

    def _vectors(self, tokens: Tokens, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """float32 [len(rows), dim] on the device."""
        inputs = self.tokenize.padded(tokens, rows)
        features: dict[str, Any] = {name: torch.from_numpy(ids).to(self._net.device) for name, ids in inputs.items()}
        vectors = self._net(features | self._marks)["sentence_embedding"]
        if self._net.truncate_dim is not None:
            vectors = truncate_embeddings(vectors, self._net.truncate_dim)
        return torch.Tensor.float(vectors)


def forward_of(net: SentenceTransformer, max_tokens: int | None, prompt: str | None, dim: int) -> Forward | None:
    """Returns our forward pass, or None where only the library knows how to prepare the net's texts.

    That is: a first module that is no plain Transformer (StaticEmbedding, CLIP), settings of its own for its texts, no
    fast tokenizer, and whatever makes the library's inputs differ from ours, such as a chat template. Seen on this
    very net: both prepare the same texts, in three scripts, an empty one and one beyond any limit.
    """
    first, tokenizer = net[0], getattr(net, "tokenizer", None)
    if type(first) is not Transformer or first.processing_kwargs or not _can_be_cloned(tokenizer):
        return None
    tokenize = Tokenization(tokenizer, max_tokens, prompt)
    texts = [*PROBE_TEXTS[:3], "", "a", " ".join(PROBE_TEXTS) * (1 + (max_tokens or 0) // len(PROBE_TEXTS))]
    theirs: dict[str, Any] = dict(net.preprocess(texts, prompt=prompt))
    marks = {name: theirs.pop(name) for name in _MARKS & theirs.keys()}
    ours = tokenize.padded(tokenize(texts), np.arange(len(texts)))
    return Forward(net, tokenize, marks, dim) if _same(ours, theirs) else None


def _can_be_cloned(tokenizer: Any) -> bool:
    return getattr(tokenizer, "is_fast", False) and tokenizer.pad_token_id is not None


def _same(ours: dict[str, npt.NDArray[np.int64]], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
