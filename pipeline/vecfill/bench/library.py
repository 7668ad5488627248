"""The yardstick: ``SentenceTransformer.encode`` in float32, texts in memory, no database."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from vecfill.bench.measure import Measured
from vecfill.config.model import Model
from vecfill.encode.model_location import locate_model

DEFAULT_BATCH = 32
BATCHES = (8, 16, 32, 64, 128, 256)

SEARCH_TEXTS = 256
"""Texts that the best batch size is looked for with, drawn evenly."""

WARM_TEXTS = 64


@dataclass(kw_only=True)
class Library:
    """``encode`` at its default, or at the batch size that is best here."""

    model: Model
    texts: tuple[str, ...]
    search: bool = False
    _net: Any = field(default=None, repr=False)
    _batch: int = DEFAULT_BATCH

    def prepare(self) -> dict[str, Any]:
        """Loads the model, encodes a few texts, and looks for the best batch size where that is wanted."""
        self._net = load(self.model)
        loaded = time.monotonic()
        self._seconds(self.texts[:WARM_TEXTS], DEFAULT_BATCH)
        if self.search:
            some = self.texts[:: max(1, len(self.texts) // SEARCH_TEXTS)][:SEARCH_TEXTS]
            self._batch = min(BATCHES, key=lambda size: self._seconds(some, size))
        return {"loaded": loaded, "batch": self._batch, "dtype": "float32", "device": self._net.device.type}

    def measure(self) -> Measured:
        """Encodes all texts in one call, as the library's own page shows."""
        seconds = self._seconds(self.texts, self._batch)
        return Measured(seconds=seconds, marks=((seconds, len(self.texts)),), stages={"encode": seconds})

    def close(self) -> None:
        """Nothing is held."""

    def _seconds(self, texts: tuple[str, ...], batch: int) -> float:
        start = time.perf_counter()
        self._net.encode(list(texts), batch_size=batch, show_progress_bar=False)
        return time.perf_counter() - start


def load(model: Model) -> Any:
    """The SentenceTransformer in float32, where torch puts it by itself."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    device = None if model.device == "auto" else model.device
    return SentenceTransformer(locate_model(model), device=device, model_kwargs={"dtype": "float32"})
