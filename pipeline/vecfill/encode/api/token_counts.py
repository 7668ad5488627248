"""Tokens of texts that an API will count: by its own tokenizer where the user names it, else by an estimate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vecfill.encode.model_files import fetched
from vecfill.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

Counts = npt.NDArray[np.int32]

INPUT_TOKENS = 8_191
"""Tokens that OpenAI takes of a text, special tokens aside: longer ones are refused."""

FIRST_GUESS = 0.4
"""Tokens a byte of UTF-8 before any answer has told: English has about 0.23, other scripts up to 0.4."""

MARGIN = 1.2
"""Of a guess over what the answers told so far: texts differ."""

SPECIAL = 3
"""Tokens that a tokenizer may add to a text."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Texts as they are sent.

    Attributes:
        texts: n texts.
        tokens: int32 [n], before truncation.
        sent: int32 [n], after it.
        truncated: bool [n].
    """

    texts: list[str]
    tokens: Counts
    sent: Counts
    truncated: npt.NDArray[np.bool_]


def bound(texts: Sequence[str]) -> int:
    """The most tokens that any tokenizer makes of the texts: none is shorter than a byte."""
    return sum(len(text.encode("utf-8", "surrogatepass")) + SPECIAL for text in texts)


class Estimate:
    """Guesses by bytes, from what the answers have told. Nothing is truncated, since nobody knows where."""

    exact = False
    max_tokens: int | None = None

    def __init__(self) -> None:
        self._bytes = self._tokens = 0

    def prepare(self, texts: list[str]) -> Prepared:
        """The texts as they are, with a guess of their tokens."""
        sizes = np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts], np.float64)
        rate = MARGIN * self._tokens / self._bytes if self._bytes else FIRST_GUESS
        tokens = np.ceil(sizes * rate).astype(np.int32) + 1
        return Prepared(texts=texts, tokens=tokens, sent=tokens, truncated=np.zeros(len(texts), np.bool_))

    def learn(self, texts: Sequence[str], tokens: int) -> None:
        """Takes in what an answer counted."""
        self._bytes += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        self._tokens += tokens


class Exact:
    """Counts and truncates by a ``tokenizer.json``."""

    exact = True

    def __init__(self, name: str, max_tokens: int | None) -> None:
        from tokenizers import Tokenizer

        self.max_tokens = max_tokens or INPUT_TOKENS
        file = _file(name)
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(file))
        except Exception as error:  # the Rust library raises Exception itself
            raise ConfigError(f"--tokenizer {file} cannot be read: {error}: name another model or folder") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def prepare(self, texts: list[str]) -> Prepared:
        """Counts, and cuts what is too long at the last whole token that fits."""
        found = self._tokenizer.encode_batch(texts)
        tokens = np.fromiter(map(len, found), np.int32, len(found))
        truncated = tokens > self.max_tokens
        kept = [self._cut(text, one) if cut else text for text, one, cut in zip(texts, found, truncated, strict=True)]
        return Prepared(
            texts=kept, tokens=tokens, sent=np.minimum(tokens, self.max_tokens).astype(np.int32), truncated=truncated
        )

    def learn(self, texts: Sequence[str], tokens: int) -> None:
        """Nothing: the count is exact."""

    def _cut(self, text: str, encoding: Any) -> str:
        """The beginning of the text, of at most ``max_tokens`` tokens, special ones included."""
        special = sum(encoding.special_tokens_mask)
        ends = [
            end for (_, end), added in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not added
        ]
        return text[: ends[max(1, self.max_tokens - special) - 1]]


def requests(sizes: Counts, most_inputs: int, most_tokens: int) -> Iterator[slice]:
    """Cuts texts into requests, in their order: as many as fit, and one that fits no request alone."""
    start, tokens = 0, 0
    for row, size in enumerate(sizes.tolist()):
        if row > start and (row - start >= most_inputs or tokens + size > most_tokens):
            yield slice(start, row)
            start, tokens = row, 0
        tokens += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def _file(name: str) -> Path:
    file = fetched(name, "tokenizer.json")
    if file is None or not file.is_file():
        raise ConfigError(f"--tokenizer {name} has no tokenizer.json: name a model or folder that has one")
    return file
