"""Encodes texts a token batch at a time: chooses the batches and their order; a pass computes a batch's vectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from vecfill.config.model import Model
from vecfill.encode.block_progress import Advance, no_progress
from vecfill.encode.device.compute_threads import ComputeThreads
from vecfill.encode.device.device_feed import Feed
from vecfill.encode.device.gathering import Gathering, Means, OneEach, Vectors
from vecfill.encode.device.learned_batches import LearnedBatches
from vecfill.encode.device.token_batches import BatchSizeSearch, BatchTokens, Lengths
from vecfill.encode.encoding import Encoding, Positions
from vecfill.encode.tokens.shortening import parts_of
from vecfill.encode.tokens.tokenization import Inputs, Tokenization, Tokens
from vecfill.encode.tokens.windowing import Windowing
from vecfill.encode.tokens.windows import Windows

CPU_BATCH_TOKENS = (512, 1_024, 2_048)
"""Tokens a batch on a CPU core: these stay in its cache."""

CUDA_BATCH_TOKENS = (16_384, 32_768, 65_536)
"""Tokens a batch on a GPU: enough to fill it with a small model, few enough for the memory beside a large one."""

WINDOWED_CHARS = 4 << 20
"""Characters of the texts whose windows are packed together: about a million tokens, so that a block of long texts is
not in memory as tokens at once; a longer text stands alone."""

Batch = tuple[int, Positions]
"""The batch size under trial, and the positions of the batch's inputs."""


class Pass(Protocol):
    """Computes vectors; several threads may call it at once."""

    def batches(self, lengths: Lengths, batch_tokens: BatchTokens) -> Iterator[Positions]:
        """Chooses which inputs to compute together; see ``token_batches``."""

    def __call__(self, inputs: Inputs, rows: Positions) -> torch.Tensor:
        """Returns float32 [len(rows), width] on the device for some of the inputs, one of its batches."""


class Forward:
    """Encodes texts, a batch at a time, and finds the best batch size.

    Several threads may tokenize at once; one set of compute threads encodes for all of them.
    """

    def __init__(self, tokenize: Tokenization | Windowing, compute: Pass, dim: int, feed: Feed, *, unit: bool) -> None:
        """Makes it.

        Args:
            tokenize: turns texts into tokens, or into the windows of long texts.
            compute: turns tokens into vectors.
            dim: length that the vectors are cut to.
            feed: of the device that computes.
            unit: the model scales its vectors to unit length.
        """
        self.tokenize = tokenize
        self._pass, self._dim, self._feed, self._unit = compute, dim, feed, unit
        on_gpu = feed.device.type == "cuda"
        self._sizes = CUDA_BATCH_TOKENS if on_gpu else CPU_BATCH_TOKENS
        self._search, self._learned = BatchSizeSearch(self._sizes), LearnedBatches()
        self._threads = ComputeThreads(None if on_gpu else torch.get_num_threads())

    def with_pass(self, made: Callable[[Feed], Pass]) -> Forward:
        """Returns the same with another pass, which is made for the same device."""
        return Forward(self.tokenize, made(self._feed), self._dim, self._feed, unit=self._unit)

    def remember(self, model: Model, dtype: str, strategy: str) -> LearnedBatches:
        """Takes the batch sizes over that an earlier process found for the model, and remembers those found here."""
        computing: dict[str, Any] = {"dtype": dtype, "strategy": strategy, "threads": self._threads.count}
        if self._feed.device.type == "cuda":  # beside other encoders only a share of its memory
            computing["memory"] = round(torch.cuda.get_per_process_memory_fraction(), 2)
        self._learned = LearnedBatches.of(model, self._feed.device.type, **computing)
        self._learned.limit = min(self._learned.limit, self._sizes[-1])  # to halve more than that would change nothing
        if self._learned.best in self._sizes:
            self._search = BatchSizeSearch(self._sizes, trials=0, best=self._learned.best)
        return self._learned

    def encode(self, texts: list[str], max_batch_tokens: int, advance: Advance = no_progress) -> Encoding:
        """Tokenizes and encodes, in batches of at most ``max_batch_tokens`` tokens.

        Raises:
            Exception: any error of the tokenizer or torch; the call leaves nothing behind.
        """
        windowed = isinstance(self.tokenize, Windowing)
        parts = list(parts_of(texts, WINDOWED_CHARS, WINDOWED_CHARS) if windowed else ())
        if len(parts) <= 1:
            return self._encode(texts, max_batch_tokens, advance)
        encoding, chars = Encoding.blank(len(texts), self._dim), max(1, sum(map(len, texts)))
        for part in parts:
            some = texts[part]
            share = sum(map(len, some)) / chars
            found = self._encode(some, max_batch_tokens, partial(_scaled, advance, share))
            encoding.copy_from(np.arange(part.start, part.stop), found, np.arange(len(some)))
        return encoding

    def _encode(self, texts: list[str], max_batch_tokens: int, advance: Advance) -> Encoding:
        inputs = self.tokenize(texts)
        vectors = self(inputs, max_batch_tokens, advance)
        more: dict[str, Any] = {"truncated": inputs.truncated, "windows": inputs.windows, "tokens_by": inputs.by}
        return Encoding.of(vectors, n_tokens=inputs.n_tokens, **more)

    def __call__(self, inputs: Tokens | Windows, max_batch_tokens: int, advance: Advance = no_progress) -> Vectors:
        """Returns float32 [n, dim] for the inputs that n texts became.

        Args:
            inputs: from ``tokenize``.
            max_batch_tokens: largest batch in tokens, padding included where the pass pads.
            advance: called after each batch, with its share of all tokens: they, not the texts, cost the time.
        """
        total = max(1, int(inputs.lengths.sum()))
        out = self._gathering(inputs)

        def compute(batch: Batch) -> None:
            self._compute(inputs, batch, out)
            advance(int(inputs.lengths[batch[1]].sum()) / total)

        self._threads.for_each(self._batches(inputs.lengths, max_batch_tokens), compute)
        return out.vectors()

    def _gathering(self, inputs: Tokens | Windows) -> Gathering:
        if isinstance(inputs, Windows):
            return Means(inputs, self._dim, self._feed, unit=self._unit)
        return OneEach(len(inputs.lengths), self._dim, self._feed)

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
    def _compute(self, inputs: Inputs, batch: Batch, out: Gathering) -> None:
        """Computes a batch and hands its vectors to ``out``."""
        (size, rows), started = batch, time.perf_counter()
        vectors = self._pass(inputs, rows)
        out.put(rows, vectors)
        if size and self._search.searching:
            if vectors.is_cuda:
                torch.cuda.synchronize()
            self._search.record(size, int(inputs.lengths[rows].sum()), time.perf_counter() - started)
            if not self._search.searching:
                self._learned.found(self._search.best)


def _scaled(advance: Advance, share: float, done: float) -> None:
    advance(share * done)
