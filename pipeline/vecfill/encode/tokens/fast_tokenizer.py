"""A tokenizer many times as fast as the tokenizers library: tokie, of the extra ``fast``. Its answers are checked.

It is a young library, and it is Rust: a panic there is no ``Exception``. Whatever goes wrong in it is one error here.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecfill.encode.encoding import TokensBy
from vecfill.encode.tokens.tokenization import TokenizerSpec, Tokens

Ids = npt.NDArray[np.int64]


class FastTokenizerError(Exception):
    """The fast tokenizer cannot be used; the message says why."""


def is_installed() -> bool:
    """Whether the extra ``fast`` is; imports nothing."""
    return "tokie" in sys.modules or find_spec("tokie") is not None


class FastTokenizer:
    """Turns texts into flat arrays of tokens. Thread-safe; its code releases the GIL and has threads of its own."""

    def __init__(self, spec: TokenizerSpec, max_tokens: int | None, ends: tuple[int, int]) -> None:
        """Loads it, which takes 0.1 s for a vocabulary of 30,000 tokens.

        Args:
            spec: which tokenizer.
            max_tokens: None truncates no text.
            ends: special tokens before and behind each text.

        Raises:
            FastTokenizerError: it cannot.
        """
        if spec.splits_special:
            raise FastTokenizerError("it cannot split special tokens")
        self._made = _loaded(spec.definition)
        self._types, self._limit, self._cuts_left = spec.types, max_tokens, spec.cuts_left
        self._head, self._tail = ends

    def tokens(self, texts: list[str]) -> Tokens:
        """Tokenizes.

        Raises:
            FastTokenizerError: it failed, or returned something else than tokens of these texts.
        """
        with _as_one_error():
            found, counts = self._made.encode_batch_flat(texts)
            ids, n_tokens = found.astype(np.int64), counts.astype(np.int32)
        if len(n_tokens) != len(texts) or len(ids) != n_tokens.sum(dtype=np.int64):
            raise FastTokenizerError(f"it returned {len(ids)} tokens of {len(n_tokens)} texts for {len(texts)} texts")
        ids, lengths = self._truncated(ids, n_tokens)
        types = np.zeros_like(ids) if self._types else None
        return Tokens(ids=ids, types=types, lengths=lengths, n_tokens=n_tokens, by=TokensBy.FAST)

    def _truncated(self, ids: Ids, n_tokens: npt.NDArray[np.int32]) -> tuple[Ids, npt.NDArray[np.int32]]:
        """Drops tokens beyond the limit from the end or the beginning of a text, and never special ones around it."""
        if self._limit is None or not len(n_tokens) or int(n_tokens.max()) <= self._limit:
            return ids, n_tokens
        lengths = np.minimum(n_tokens, self._limit)
        counts = n_tokens.astype(np.int64)
        place = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
        if self._cuts_left:
            first, second = np.full(len(counts), self._head), counts - (lengths - self._head)
        else:
            first, second = lengths - self._tail, counts - self._tail
        return ids[(place < np.repeat(first, counts)) | (place >= np.repeat(second, counts))], lengths


def _loaded(definition: str) -> Any:
    """Makes it of the JSON of the tokenizers library, which it reads from a file only."""
    handle, name = tempfile.mkstemp(prefix="vecfill-tokenizer-", suffix=".json")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(definition)
        with _as_one_error():
            from tokie import Tokenizer

            made = Tokenizer.from_json(name)
            made.no_padding()
            made.no_truncation()
            return made
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _as_one_error() -> Iterator[None]:
    try:
        yield
    except (MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust code is no Exception
        raise FastTokenizerError(f"{type(error).__name__}: {error}") from error
