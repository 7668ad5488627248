"""The tokenizer by itself: tokens a second on short and long texts."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vecfill.encode.tokens.hard_texts import ORDINARY

MEASURED_S = 2.0
"""Seconds for each figure."""


def tokens(folder: Any) -> dict[str, Any]:
    """Returns tokens a second by one thread and by several, of the tokenizer in a model's folder."""
    from transformers import AutoTokenizer

    from vecfill.encode.tokens.tokenization import Tokenization, TokenizerSpec

    tokenize = Tokenization(TokenizerSpec.of(AutoTokenizer.from_pretrained(str(folder))), 512, None)
    return {
        name: {count: _rate(tokenize, texts, count) for count in (1, min(8, len(os.sched_getaffinity(0))))}
        for name, texts in {"short texts": list(ORDINARY) * 400, "long texts": [" ".join(ORDINARY) * 4] * 100}.items()
    }


def _rate(tokenize: Any, texts: list[str], threads: int) -> float:
    done, started = 0, time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        while time.perf_counter() < started + MEASURED_S:
            done += sum(int(one.lengths.sum()) for one in pool.map(lambda _: tokenize(texts), range(threads)))
    return done / (time.perf_counter() - started)
