"""The tokenizers by themselves: tokens a second on short and long texts."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vecfill.bench.gpu.budget import Budget
from vecfill.bench.gpu.shapes import Shape
from vecfill.bench.gpu.speed import texts_of

MEASURED_S = 2.0
"""Seconds for each figure."""

FAST = ", fast"
"""Ending of the names of the fast tokenizer's figures."""

_LENGTHS = {"short texts": 20, "long texts": 512}
_TOKENS = 100_000
"""Of all texts that are tokenized at once: enough for the fast tokenizer to be used."""


def tokens(shape: Shape, place: Path, budget: Budget) -> dict[str, Any]:
    """Returns tokens a second by length and threads, of the tokenizer in a model's folder and of the extra ``fast``."""
    from transformers import AutoTokenizer

    from vecfill.encode.encoding import TokensBy
    from vecfill.encode.tokens.fast_tokenization import FastTokenization
    from vecfill.encode.tokens.fast_tokenizer import is_installed
    from vecfill.encode.tokens.tokenization import Tokenization, TokenizerSpec

    spec = TokenizerSpec.of(AutoTokenizer.from_pretrained(str(place)))
    texts = {name: texts_of(shape, min(length, shape.limit), _TOKENS) for name, length in _LENGTHS.items()}
    made: dict[str, Tokenization] = {"": Tokenization(spec, shape.limit, None)}
    fast = FastTokenization(spec, shape.limit, None)
    if is_installed() and fast(texts["short texts"]).by == TokensBy.FAST:
        made[FAST] = fast
    else:
        budget.left_out.append("fast tokens: tokie is not installed, or does not prove itself")
    counts = sorted({1, min(8, len(os.sched_getaffinity(0)))})
    return {
        f"{name}{kind}": {count: _rate(tokenize, some, count) for count in counts}
        for kind, tokenize in made.items()
        for name, some in texts.items()
    }


def _rate(tokenize: Any, texts: list[str], threads: int) -> float:
    done, started = 0, time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        while time.perf_counter() < started + MEASURED_S:
            done += sum(int(one.lengths.sum()) for one in pool.map(lambda _: tokenize(texts), range(threads)))
    return done / (time.perf_counter() - started)
