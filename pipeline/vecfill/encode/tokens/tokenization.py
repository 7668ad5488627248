"""Tokenizes each text once, without padding, in threads, with a tokenizer of our own.

At each call transformers sets padding and truncation on its tokenizer, which everyone shares. Ours is a clone.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from vecfill.encode.encoding import Flags, Positions, TokensBy
from vecfill.encode.tokens.shortening import CUT_CHARS, Shortening, parts_of

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """A fast tokenizer of transformers, apart from that library.

    Attributes:
        definition: JSON of the tokenizers library.
        types: whether the model takes token types.
        pad: id and token type of the padding.
        pads_left: whether padding comes before the tokens.
        cuts_left: whether truncation drops the beginning of a text.
        splits_special: whether special tokens in a text are plain text.
    """

    definition: str
    types: bool
    pad: tuple[int, int]
    pads_left: bool
    cuts_left: bool
    splits_special: bool

    @classmethod
    def of(cls, original: Any) -> TokenizerSpec:
        """Takes it from a tokenizer of transformers that has a padding token, and leaves that alone."""
        return cls(
            definition=original.backend_tokenizer.to_str(),
            types="token_type_ids" in original.model_input_names,
            pad=(int(original.pad_token_id), int(original.pad_token_type_id)),
            pads_left=original.padding_side == "left",
            cuts_left=original.truncation_side == "left",
            splits_special=bool(original.split_special_tokens),
        )


class Inputs(Protocol):
    """Sequences of tokens that a model computes: texts, or the windows of texts."""

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Int32 [m], tokens of each sequence."""

    def packed(self, rows: Positions) -> tuple[Ids, Ids | None]:
        """Returns the tokens of some sequences, one sequence after the other, and their token types."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of ``n`` texts, as inputs of the model.

    Attributes:
        ids: int64 [sum of lengths], one text after the other; special tokens and prompt included.
        types: the token types in the same layout, None if the model takes none.
        lengths: int32 [n], tokens after truncation.
        n_tokens: int32 [n], tokens before truncation; of a text that is cut first, see ``shortening``, those of
            its beginning, which are more than the limit.
        by: which tokenizer made them.
    """

    ids: Ids
    types: Ids | None
    lengths: npt.NDArray[np.int32]
    n_tokens: npt.NDArray[np.int32]
    by: TokensBy = TokensBy.LIBRARY

    @property
    def truncated(self) -> Flags:
        """Bool [n], whether the text was longer than the limit."""
        return np.greater(self.n_tokens, self.lengths)

    @property
    def windows(self) -> npt.NDArray[np.int32]:
        """Int32 [n], one each."""
        return np.ones(len(self.lengths), np.int32)

    def places(self, rows: Positions) -> tuple[Ids, Ids]:
        """Returns the lengths of some texts, and where their tokens start."""
        starts = np.cumsum(self.lengths, dtype=np.int64) - self.lengths
        return self.lengths[rows].astype(np.int64), starts[rows]

    def packed(self, rows: Positions) -> tuple[Ids, Ids | None]:
        """Returns the tokens of some texts, one text after the other, and their token types."""
        lengths, starts = self.places(rows)
        source = np.arange(int(lengths.sum())) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        return self.ids[source], None if self.types is None else self.types[source]

    def take(self, rows: Positions) -> Tokens:
        """Returns the tokens of some texts."""
        ids, types = self.packed(rows)
        return replace(self, ids=ids, types=types, lengths=self.lengths[rows], n_tokens=self.n_tokens[rows])


class Tokenization:
    """Turns texts into tokens, and tokens into the padded rectangles that a model takes."""

    def __init__(
        self, spec: TokenizerSpec, max_tokens: int | None, prompt: str | None, *, cut_chars: int = CUT_CHARS
    ) -> None:
        """Makes a tokenizer.

        Args:
            spec: which one.
            max_tokens: None truncates no text.
            prompt: put before each text.
            cut_chars: length of a text from which only its beginning is tokenized.
        """
        self._spec, self._tokenizer = spec, _made(spec, max_tokens)
        self._shortening = Shortening(self._tokenizer, max_tokens, spec.cuts_left, cut_chars)
        self._special = int(self._tokenizer.num_special_tokens_to_add(False))
        self._prompt = prompt or ""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, which truncates as was asked."""
        return self._tokenizer

    @property
    def prompt(self) -> str:
        """What is put before each text."""
        return self._prompt

    def with_prompt(self, prompt: str | None) -> Tokenization:
        """Returns the same tokenization with another prompt."""
        other = copy(self)
        other._prompt = prompt or ""
        return other

    def __call__(self, texts: list[str]) -> Tokens:
        """Tokenizes; the Rust code releases the GIL."""
        return self._whole(self._prompted(texts), self._tokens)

    def _prompted(self, texts: list[str]) -> list[str]:
        return [self._prompt + text for text in texts] if self._prompt else texts

    def _whole(self, texts: list[str], tokens_of: Callable[[list[str]], Tokens]) -> Tokens:
        """Tokenizes a part of the texts at a time."""
        return joined([self._part(texts[part], tokens_of) for part in parts_of(texts, self._shortening.size)])

    def _part(self, texts: list[str], tokens_of: Callable[[list[str]], Tokens]) -> Tokens:
        """Tokenizes some texts at once; of a single one no more than is needed."""
        if len(texts) != 1:
            return tokens_of(texts)
        for beginning in self._shortening.beginnings(texts[0]):
            tokens = tokens_of([beginning])
            if int(tokens.n_tokens[0]) >= self._shortening.enough:
                break
        return tokens

    def _tokens(self, texts: list[str]) -> Tokens:
        """Tokenizes by the tokenizers library."""
        found = self._tokenizer.encode_batch_fast(texts)
        lengths = np.fromiter(map(len, found), np.int32, len(found))
        cut = (sum(len(rest) - self._special for rest in one.overflowing) for one in found)
        return Tokens(
            ids=_flat([one.ids for one in found], lengths),
            types=_flat([one.type_ids for one in found], lengths) if self._spec.types else None,
            lengths=lengths,
            n_tokens=lengths + np.fromiter(cut, np.int32, len(found)),
        )

    def padded(self, inputs: Inputs, rows: Positions) -> dict[str, Ids]:
        """Returns the model's inputs for some texts: int64 [len(rows), longest], padded on the tokenizer's own side."""
        lengths = inputs.lengths[rows][:, None]
        width = int(lengths.max())
        column = np.arange(width) - (width - lengths if self._spec.pads_left else 0)
        inside = (column >= 0) & (column < lengths)
        ids, types = inputs.packed(rows)
        features = {"input_ids": _scattered(ids, inside, self._spec.pad[0])}
        if types is not None:
            features["token_type_ids"] = _scattered(types, inside, self._spec.pad[1])
        return features | {"attention_mask": inside.astype(np.int64)}


def _made(spec: TokenizerSpec, max_tokens: int | None) -> Tokenizer:
    made = Tokenizer.from_str(spec.definition)
    made.encode_special_tokens = spec.splits_special
    made.no_padding()
    if max_tokens is None:
        made.no_truncation()
    else:
        made.enable_truncation(max_tokens, direction="left" if spec.cuts_left else "right")
    return made


def special_ends(tokenizer: Tokenizer) -> tuple[int, int] | None:
    """Returns the special tokens before and behind a text; None if there are some within it."""
    whole: Any = tokenizer.encode("a")
    mask = list(whole.special_tokens_mask)
    before, behind = ([*some, 0].index(0) for some in (mask, mask[::-1]))
    inner = whole.ids[before : len(mask) - behind]
    return (before, behind) if inner == tokenizer.encode("a", add_special_tokens=False).ids else None


def joined(parts: list[Tokens]) -> Tokens:
    """Returns the tokens of all parts' texts, in order."""
    if len(parts) == 1:
        return parts[0]
    types = [part.types for part in parts if part.types is not None]
    return Tokens(
        ids=np.concatenate([part.ids for part in parts]),
        types=np.concatenate(types) if types else None,
        lengths=np.concatenate([part.lengths for part in parts]),
        n_tokens=np.concatenate([part.n_tokens for part in parts]),
        by=parts[0].by,
    )


def _flat(lists: list[list[int]], lengths: npt.NDArray[np.int32]) -> Ids:
    return np.fromiter(chain.from_iterable(lists), np.int64, int(lengths.sum()))


def _scattered(values: Ids, inside: Flags, pad: int) -> Ids:
    """Puts the values where the rectangle has a token, row by row, and ``pad`` everywhere else."""
    rectangle = np.full(inside.shape, pad, np.int64)
    rectangle[inside] = values
    return rectangle
