"""The forward pass over token batches: the library's own modules, fed by us.

Padding, order and the batch are ours; what is computed is the library's: Transformer, Pooling, Dense, Normalize and
whatever else the model consists of. The transformer may compute in bfloat16; what comes after it is cheap and decides
the vector's length and direction to the last digits, so it is always float32.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import truncate_embeddings

from vecfill.encode.batches import BudgetSearch, token_batches
from vecfill.encode.tokens import Tokenization, Tokens

CPU_BUDGETS = (1_024, 2_048, 4_096)
"""Tokens a batch on a CPU: these stay in a core's cache (AVX-512: 2,048 is 1.4 to 1.7 times `encode(32)`; 8,192 and
unsorted batches are slower)."""

CUDA_BUDGETS = (16_384, 32_768, 65_536)
"""Tokens a batch on a GPU: enough to fill it with a small model, little enough for a large one's memory."""


class Forward:
    """Encodes tokens, a batch at a time, and learns how large a batch should be.

    Calls from several threads tokenize side by side and compute one after the other.
    """

    def __init__(self, net: SentenceTransformer, tokenization: Tokenization, prompt: str | None) -> None:
        self._net, self.tokenize = net, tokenization
        self._extra: dict[str, Any] = {"modality": "text"}
        if prompt and (length := net[0]._get_prompt_length(prompt)) is not None:
            self._extra["prompt_length"] = length
        self._on_cpu = net.device.type == "cpu"
        self._search = BudgetSearch(CPU_BUDGETS if self._on_cpu else CUDA_BUDGETS)
        self._lock = threading.Lock()

    @property
    def budget(self) -> int:
        """Tokens a batch that did best so far."""
        return self._search.best

    @torch.inference_mode()
    def __call__(self, tokens: Tokens, most: int) -> npt.NDArray[np.float32]:
        """Returns float32 [n, dim] for the tokens of n texts.

        Args:
            tokens: from ``tokenize``.
            most: tokens that a batch may have, padding included.
        """
        with self._lock:
            out = torch.empty(0)
            for rows, vectors in self._batches(tokens, most):
                if not len(out):
                    out = torch.empty((len(tokens.lengths), vectors.shape[1]), device=vectors.device)
                out[torch.from_numpy(rows).to(out.device)] = vectors
            found: npt.NDArray[np.float32] = out.cpu().numpy()
            return found

    def _batches(self, tokens: Tokens, most: int) -> Iterator[tuple[npt.NDArray[np.int64], torch.Tensor]]:
        """Yields positions and vectors, batch by batch; while it searches, every batch has another budget."""
        left = np.argsort(-tokens.lengths, kind="stable")
        while len(left):
            lengths = tokens.lengths[left]
            if self._search.searching and most >= max(self._search.candidates):
                budget = self._search.next()
                rows = left[token_batches(lengths, budget)[0]]
                yield rows, self._timed(tokens, rows, budget)
                left = left[len(rows) :]
            else:
                for rows in token_batches(lengths, min(most, self._search.best)):
                    yield left[rows], self._vectors(tokens, left[rows])
                return

    def _timed(self, tokens: Tokens, rows: npt.NDArray[np.int64], budget: int) -> torch.Tensor:
        start = time.perf_counter()
        vectors = self._vectors(tokens, rows)
        if not self._on_cpu:
            torch.cuda.synchronize()
        self._search.took(budget, int(tokens.lengths[rows].sum()), time.perf_counter() - start)
        return vectors

    def _vectors(self, tokens: Tokens, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """float32 [len(rows), dim] on the device."""
        inputs = self.tokenize.padded(tokens, rows)
        features: dict[str, Any] = {name: torch.from_numpy(ids).to(self._net.device) for name, ids in inputs.items()}
        vectors = self._net(features | self._extra)["sentence_embedding"]
        if self._net.truncate_dim is not None:
            vectors = truncate_embeddings(vectors, self._net.truncate_dim)
        return torch.Tensor.float(vectors)
