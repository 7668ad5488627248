"""Encodes texts a token batch at a time: chooses the batches and their order; a pass computes a batch's vectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from vecfill.encode.block_progress import Advance, no_progress
from vecfill.encode.compute_threads import ComputeThreads
from vecfill.encode.device_feed import Feed
from vecfill.encode.encoding import Encoding, Positions
from vecfill.encode.token_batches import BatchSizeSearch, BatchTokens, Lengths
from vecfill.encode.tokenization import Tokenization, Tokens

CPU_BATCH_TOKENS = (512, 1_024, 2_048)
"""Tokens a batch on a CPU core: these stay in its cache."""

CUDA_BATCH_TOKENS = (16_384, 32_768, 65_536)
"""Tokens a batch on a GPU: enough to fill it with a small model, few enough for the memory beside a large one."""

Batch = tuple[int, Positions]
"""The batch size under trial, and the positions of the batch's texts."""


class Pass(Protocol):
    """Computes vectors; several threads may call it at once."""

    def batches(self, lengths: Lengths, batch_tokens: BatchTokens) -> Iterator[Positions]:
        """Chooses which texts to compute together; see ``token_batches``."""

    def __call__(self, tokens: Tokens, rows: Positions) -> torch.Tensor:
        """Returns float32 [len(rows), dim] on the device for some of the texts, one of its batches."""


class Forward:
    """Encodes texts, a batch at a time, and finds the best batch size.

    Several threads may tokenize at once; one set of compute threads encodes for all of them.
    """

    def __init__(self, tokenize: Tokenization, compute: Pass, dim: int, feed: Feed) -> None:
        """Takes how texts become tokens and tokens vectors, the vectors' length, and the device that computes."""
        self.tokenize = tokenize
        self._pass, self._dim, self._feed = compute, dim, feed
        on_gpu = feed.device.type == "cuda"
        self._search = BatchSizeSearch(CUDA_BATCH_TOKENS if on_gpu else CPU_BATCH_TOKENS)
        self._threads = ComputeThreads(None if on_gpu else torch.get_num_threads())

    def with_pass(self, made: Callable[[Feed], Pass]) -> Forward:
        """Returns the same with another pass, which is made for the same device."""
        return Forward(self.tokenize, made(self._feed), self._dim, self._feed)

    def encode(self, texts: list[str], max_batch_tokens: int, advance: Advance = no_progress) -> Encoding:
        """Tokenizes and encodes, in batches of at most ``max_batch_tokens`` tokens.

        Raises:
            Exception: any error of the tokenizer or torch; the call leaves nothing behind.
        """
        tokens = self.tokenize(texts)
        truncated = np.greater(tokens.n_tokens, tokens.lengths)
        return Encoding.of(self(tokens, max_batch_tokens, advance), n_tokens=tokens.n_tokens, truncated=truncated)

    def __call__(
        self, tokens: Tokens, max_batch_tokens: int, advance: Advance = no_progress
    ) -> npt.NDArray[np.float32]:
        """Returns float32 [n, dim] for the tokens of n texts.

        Args:
            tokens: from ``tokenize``.
            max_batch_tokens: largest batch in tokens, padding included where the pass pads.
            advance: called after each batch, with its share of all tokens: they, not the texts, cost the time.
        """
        total = max(1, int(tokens.lengths.sum()))

        def compute(batch: Batch) -> None:
            self._compute(tokens, batch, out)
            advance(int(tokens.lengths[batch[1]].sum()) / total)

        out = torch.empty((len(tokens.lengths), self._dim), device=self._feed.device)
        batches = self._batches(tokens.lengths, max_batch_tokens)
        self._threads.for_each(batches, compute)
        return self._feed.to_host(out)

    def _batches(self, lengths: Lengths, max_batch_tokens: int) -> Iterator[Batch]:
        """Yields token batches, each with the batch size under trial; 0 where memory allows only a smaller one."""
        size = 0

        def next_size() -> int:
            nonlocal size
            size = self._search.next()
            return min(max_batch_tokens, size)

        for rows in self._pass.batches(lengths, next_size):
            yield size if size <= max_batch_tokens else 0, rows

    @torch.inference_mode()
    def _compute(self, tokens: Tokens, batch: Batch, out: torch.Tensor) -> None:
        """Writes the vectors of a batch to ``out``."""
        (size, rows), started = batch, time.perf_counter()
        [places] = self._feed.to_device(rows)
        out.index_copy_(0, places.long(), self._pass(tokens, rows))
        if size and self._search.searching:
            if out.is_cuda:
                torch.cuda.synchronize()
            self._search.record(size, int(tokens.lengths[rows].sum()), time.perf_counter() - started)
