"""How much of what a model computes is padding, seen at the model's own door."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Padding:
    """Tokens that went into the model, and places that it computed."""

    def __init__(self) -> None:
        self._tokens: list[Any] = []
        self._places = 0
        self._lock = threading.Lock()

    def saw(self, features: dict[str, Any]) -> None:
        """Counts one batch; sums stay on the device until they are asked for."""
        with self._lock:
            self._places += int(features["input_ids"].numel())
            self._tokens.append(features["attention_mask"].sum())

    @property
    def share(self) -> float | None:
        """Padding in [0, 1); None where no batch was seen."""
        return 1.0 - sum(int(one) for one in self._tokens) / self._places if self._places else None


@contextmanager
def padding_counted(padding: Padding, model: str) -> Iterator[None]:
    """Counts what goes into any SentenceTransformer of this process meanwhile; nothing for a model without weights."""
    if model.startswith("hash:"):
        yield
        return
    from sentence_transformers.base.modules import Transformer
    from torch.nn.modules.module import register_module_forward_pre_hook

    def hook(module: Any, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, Transformer) and {"input_ids", "attention_mask"} <= set(inputs[0]):
            padding.saw(inputs[0])

    handle = register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
