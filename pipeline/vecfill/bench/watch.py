"""What a run shows while it works: when each stage was busy, and how much of the model's input was padding."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from vecfill.bench.measure import Span


class Spans:
    """When each stage was at work; stages call from threads of their own."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forgets everything and starts the clock."""
        self._start = time.perf_counter()
        self._found: dict[str, list[Span]] = {}

    def call(self, stage: str, work: Any, item: Any) -> pa.Table:
        """Calls ``work(item)`` and notes when."""
        begun = time.perf_counter()
        table = work(item)
        span = (begun - self._start, time.perf_counter() - self._start, int(table.num_rows))
        self._found.setdefault(stage, []).append(span)  # both are atomic
        return table

    def found(self) -> dict[str, list[Span]]:
        """The spans by stage."""
        return {stage: list(spans) for stage, spans in self._found.items()}


class Watched:
    """A stage whose calls are timed; every other attribute is the stage's own, to read and to set."""

    def __init__(self, name: str, stage: Any, spans: Spans) -> None:
        self.__dict__.update(_name=name, _stage=stage, _spans=spans)

    def __call__(self, item: Any) -> pa.Table:
        """Calls the stage."""
        return self._spans.call(self._name, self._stage, item)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_stage"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stage, name, value)


class Padding:
    """Batches that went into the model: positions that it computed, and tokens among them."""

    def __init__(self) -> None:
        self._batches: list[tuple[int, Any]] = []

    def add(self, features: dict[str, Any]) -> None:
        """Counts one batch; sums stay on the device until ``share``."""
        self._batches.append((int(features["input_ids"].numel()), features["attention_mask"].sum()))

    @property
    def share(self) -> float | None:
        """Padding in [0, 1); None where no batch was counted."""
        positions = sum(count for count, _ in self._batches)
        return 1.0 - sum(int(tokens) for _, tokens in self._batches) / positions if positions else None


def _is_transformer(kind: type) -> bool:
    """Whether it is the library's Transformer, which is not imported for a model that our own pass computes."""
    return kind.__name__ == "Transformer" and kind.__module__.startswith("sentence_transformers.")


@contextmanager
def padding_counted(model: str) -> Iterator[Padding]:
    """Counts the input of every SentenceTransformer of this process; nothing for a model without weights."""
    padding = Padding()
    if model.startswith("hash:"):
        yield padding
        return
    from torch.nn.modules.module import register_module_forward_pre_hook

    def hook(module: Any, inputs: tuple[Any, ...]) -> None:
        if _is_transformer(type(module)) and {"input_ids", "attention_mask"} <= set(inputs[0]):
            padding.add(inputs[0])

    handle = register_module_forward_pre_hook(hook)
    try:
        yield padding
    finally:
        handle.remove()
