"""Where a long text may be cut before it is tokenized, so that the tokens before the cut are those of the whole text.

A tokenizer needs 50 to 100 bytes of memory a byte of text, also for what truncation then drops.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CUT_CHARS = 65_536
"""Texts up to this length are tokenized whole, and so are their tokens counted."""

CHARS_A_TOKEN = 8
"""Characters of a text to keep for each token of the limit, at first: more than almost every text has."""

GROWTH = 8
"""Factor of the length to keep if that gave too few tokens."""

MARGIN = 128
"""Tokens that the kept text must have beyond the limit: the last, incomplete word of a WordPiece tokenizer has at most
100, one for each character that it looks at."""

BATCH_CHARS = 1 << 20
"""Characters that are tokenized at once: some 50 to 100 MB."""

PROBES = ("ab cd", "Ab Cd", "über Straße", "слово слово", "数据 工程", "data 数据", "שלום עולם", "x y")


class Shortening:
    """Cuts texts for one tokenizer. Pure.

    Cuts at a space between two letters, if the tokenizer splits texts there before it looks for tokens: then no token
    depends on what follows. BERT's tokenizers read word by word from the left: they allow a cut anywhere, if the last
    word is not used. Texts without such a place, and other tokenizers' texts, are not cut.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int | None, from_left: bool, cut_chars: int) -> None:
        """Probes the tokenizer.

        Args:
            tokenizer: one that truncates.
            max_tokens: its limit; None cuts nothing.
            from_left: it truncates the beginning of a text, so nothing may be cut.
            cut_chars: length of a text from which it is cut.
        """
        possible = max_tokens is not None and not from_left
        self._anywhere = possible and reads_words_from_left(tokenizer)
        self._at_spaces = possible and splits_at_spaces(tokenizer)
        self.size = max(cut_chars, CHARS_A_TOKEN * (max_tokens or 0))
        self.enough = (max_tokens or 0) + MARGIN

    def beginnings(self, text: str) -> Iterator[str]:
        """Yields longer and longer beginnings of a text, the last one whole."""
        size = self.size
        while len(text) > size and (end := self._end(text, size)):
            yield text[:end]
            size *= GROWTH
        yield text

    def _end(self, text: str, size: int) -> int:
        """Returns where to cut, at ``size`` or before; 0 if that is not possible."""
        if self._anywhere:
            return size
        return space_between_letters(text, 0, size) if self._at_spaces else 0


def space_between_letters(text: str, start: int, end: int) -> int:
    """Returns the place of the last such space in a part of a text, not the part's first character; 0 if none."""
    at = end
    while (at := text.rfind(" ", start + 1, at)) > 0:
        if text[at - 1].isalpha() and text[at + 1].isalpha():
            return at
    return 0


def parts_of(texts: list[str], alone: int = BATCH_CHARS, most: int = BATCH_CHARS) -> Iterator[slice]:
    """Yields the texts to tokenize at once: ``most`` characters; a text of more than ``alone`` stands alone."""
    start, chars = 0, 0
    for row, text in enumerate(texts):
        if row > start and (max(len(text), len(texts[start])) > alone or chars + len(text) > most):
            yield slice(start, row)
            start, chars = row, 0
        chars += len(text)
    yield slice(start, len(texts))


def reads_words_from_left(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer is one of BERT's: it reads word by word, and a word ends at every space."""
    from tokenizers import models, normalizers, pre_tokenizers

    model: Any = tokenizer.model
    return (
        isinstance(model, models.WordPiece)
        and model.max_input_chars_per_word < MARGIN
        and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and isinstance(tokenizer.normalizer, normalizers.BertNormalizer | None)
    )


def splits_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a word always ends before a space between letters, and no added token contains white space."""
    pre, normalizer = tokenizer.pre_tokenizer, tokenizer.normalizer
    if pre is None or any(
        len(f"x{added.content}x".split()) > 1 for added in tokenizer.get_added_tokens_decoder().values()
    ):
        return False
    for probe in PROBES:
        text = normalizer.normalize_str(probe) if normalizer else probe
        at = text.find(" ")
        if at < 0 or all(end != at for _, (_, end) in pre.pre_tokenize_str(text)):
            return False
    return True
