"""Pieces of a long text that are tokenized one by one, so that memory does not grow with the text.

A tokenizer needs 100 to 150 bytes of memory a byte of text. Only where the pieces' tokens are provably the text's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vecfill.encode.tokens.shortening import PROBES, reads_words_from_left, space_between_letters, splits_at_spaces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from vecfill.encode.tokens.tokenization import Tokens

PIECE_CHARS = 65_536
"""Most characters of a piece, unless the text has no place to cut."""


class TextPieces:
    """Cuts texts before spaces between two letters, for a tokenizer that begins and ends a word there. Pure."""

    def __init__(self, tokenizer: Tokenizer, size: int = PIECE_CHARS) -> None:
        """Probes the tokenizer, which must not truncate."""
        ends = splits_at_spaces(tokenizer) or reads_words_from_left(tokenizer)
        self._size, self._possible = size, ends and _joins_at_spaces(tokenizer)

    def __call__(self, text: str) -> Iterator[str]:
        """Yields the pieces of a text."""
        start = 0
        while self._possible and len(text) - start > self._size:
            end = space_between_letters(text, start, start + self._size)
            if not end:
                break
            yield text[start:end]
            start = end
        yield text[start:] if start else text


def _joins_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether what follows such a space has the same tokens without what comes before it."""
    added = tokenizer.get_added_tokens_decoder().values()
    if any(token.rstrip and token.content[-1:].isalpha() for token in added):
        return False

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    parts = ((probe, probe.index(" ")) for probe in PROBES)
    return all(ids(probe) == ids(probe[:at]) + ids(probe[at:]) for probe, at in parts)


def merged(tokens: Tokens, pieces: list[int], before: int, behind: int) -> Tokens:
    """Returns the tokens of texts, from those of their pieces.

    Args:
        tokens: of the pieces, one text's after the other's, each with special tokens.
        pieces: number of pieces of each text.
        before: special tokens before a text.
        behind: special tokens behind it.
    """
    if len(pieces) == len(tokens.lengths):
        return tokens
    counts = np.array(pieces)
    owners, ends = np.repeat(np.arange(len(counts)), counts), np.cumsum(counts)
    first, last = np.zeros(len(owners), np.bool_), np.zeros(len(owners), np.bool_)
    first[ends - counts] = last[ends - 1] = True
    lengths = tokens.lengths.astype(np.int64)
    place = np.arange(len(tokens.ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = np.repeat(first, lengths) | (place >= before)
    kept &= np.repeat(last, lengths) | (place < np.repeat(lengths - behind, lengths))
    whole = lengths - np.where(first, 0, before) - np.where(last, 0, behind)
    sums = np.bincount(owners, whole, len(counts)).astype(np.int32)
    types = None if tokens.types is None else tokens.types[kept]
    return replace(tokens, ids=tokens.ids[kept], types=types, lengths=sums, n_tokens=sums)
