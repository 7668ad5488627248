"""Counts the tokens of texts for an API: by its own tokenizer if the user names it, else by an estimate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vecfill.encode.block_progress import Advance, no_progress
from vecfill.encode.model.model_files import fetched
from vecfill.encode.tokens.shortening import parts_of
from vecfill.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

Counts = npt.NDArray[np.int32]

INPUT_TOKENS = 8_191
"""Tokens that OpenAI accepts in a text, special tokens excluded: it refuses longer texts."""

FIRST_GUESS = 0.4
"""Tokens per byte of UTF-8 before the first answer: English has about 0.23, other scripts up to 0.4."""

MARGIN = 1.2
"""Factor of an estimate over what earlier answers counted: texts differ."""

SPECIAL = 3
"""Tokens that a tokenizer may add to a text."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Texts as they are sent.

    Attributes:
        texts: n texts.
        tokens: int32 [n], tokens before truncation.
        sent: int32 [n], tokens after truncation.
        truncated: bool [n].
        bytes: int64 [n], of the texts as they are sent.
        is_query: they are search queries, not rows.
        advance: called after each answer, with its share of the texts.
    """

    texts: list[str]
    tokens: Counts
    sent: Counts
    truncated: npt.NDArray[np.bool_]
    bytes: npt.NDArray[np.int64]
    is_query: bool = False
    advance: Advance = no_progress


def token_bound(texts: Sequence[str]) -> int:
    """Returns the most tokens that any tokenizer makes of the texts: none is shorter than a byte."""
    return int(byte_counts(texts).sum()) + SPECIAL * len(texts)


def byte_counts(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Returns int64 [n], the length of each text in UTF-8."""
    return np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts], np.int64)


class Estimate:
    """Estimates by bytes and by what earlier answers counted. Truncates nothing, since it cannot know where."""

    exact = False
    max_tokens: int | None = None

    def __init__(self) -> None:
        self._bytes = self._tokens = 0

    def prepare(self, texts: list[str]) -> Prepared:
        """Returns the texts as they are, with an estimate of their tokens."""
        sizes = byte_counts(texts)
        rate = MARGIN * self._tokens / self._bytes if self._bytes else FIRST_GUESS
        tokens = np.ceil(sizes * rate).astype(np.int32) + 1
        return Prepared(texts=texts, tokens=tokens, sent=tokens, truncated=np.zeros(len(texts), np.bool_), bytes=sizes)

    def learn(self, texts: Sequence[str], tokens: int) -> None:
        """Improves the estimate by what an answer counted."""
        self._bytes += int(byte_counts(texts).sum())
        self._tokens += tokens


class Exact:
    """Counts and truncates by a ``tokenizer.json``."""

    exact = True

    def __init__(self, name: str, max_tokens: int | None) -> None:
        self.max_tokens = max_tokens or INPUT_TOKENS
        self._tokenizer = read_tokenizer(name)

    def prepare(self, texts: list[str]) -> Prepared:
        """Counts, and cuts texts that are too long after the last whole token that fits."""
        tokens, kept = np.zeros(len(texts), np.int32), list[str]()
        for part in parts_of(texts):
            found = self._tokenizer.encode_batch(texts[part])
            tokens[part] = [len(one) for one in found]
            kept += [
                self._cut(text, one) if len(one) > self.max_tokens else text
                for text, one in zip(texts[part], found, strict=True)
            ]
            del found  # before the next part is tokenized
        truncated = tokens > self.max_tokens
        return Prepared(
            texts=kept,
            tokens=tokens,
            sent=np.minimum(tokens, self.max_tokens).astype(np.int32),
            truncated=truncated,
            bytes=byte_counts(kept),
        )

    def learn(self, texts: Sequence[str], tokens: int) -> None:
        """Does nothing: the count is exact."""

    def _cut(self, text: str, encoding: Any) -> str:
        """Returns the beginning of the text, at most ``max_tokens`` tokens, special ones included."""
        special = sum(encoding.special_tokens_mask)
        ends = [
            end for (_, end), added in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not added
        ]
        return text[: ends[max(1, self.max_tokens - special) - 1]]


def split_into_requests(sizes: Counts | npt.NDArray[np.int64], max_inputs: int, max_size: int) -> Iterator[slice]:
    """Splits texts, of sizes in tokens or bytes, in order: as many as fit; a text that fits no request gets its own."""
    start, total = 0, 0
    for row, size in enumerate(sizes.tolist()):
        if row > start and (row - start >= max_inputs or total + size > max_size):
            yield slice(start, row)
            start, total = row, 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def read_tokenizer(name: str) -> Any:
    """Returns the tokenizer of a hub id, a folder, or a file, without padding and truncation.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    from tokenizers import Tokenizer

    file = Path(name) if name.endswith(".json") else fetched(name, "tokenizer.json")
    if file is None or not file.is_file():
        raise ConfigError(f"--tokenizer {name} has no tokenizer.json: name a model or folder that has one")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the Rust library raises Exception itself
        raise ConfigError(f"--tokenizer {file} cannot be read: {error}: name another model or folder") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def count_tokens(tokenizer: Any, texts: list[str]) -> Counts:
    """Returns int32 [n], the tokens of each text, special ones included."""
    tokens = np.zeros(len(texts), np.int32)
    for part in parts_of(texts):
        tokens[part] = [len(one) for one in tokenizer.encode_batch_fast(texts[part])]
    return tokens
