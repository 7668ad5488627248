"""The vectors of a list of texts, and for each text without one the reason: what every encoder returns."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]

_MESSAGE_LENGTH = 300
"""Characters of an error message that are kept with its row: some libraries quote the whole input."""


def one_line(text: str, length: int) -> str:
    """Returns the text on one line, cut to a number of characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def error_line(error: Exception, length: int = 300) -> str:
    """Returns the class and the message of an error on one line, cut to a number of characters."""
    return one_line(f"{type(error).__name__}: {error}", length)


class RowError(NamedTuple):
    """Why a text has no vector: the class of the error (``row`` or ``resource``) and its message."""

    error_class: str
    message: str


class TokensBy(enum.IntEnum):
    """Who made the tokens of a text: the tokenizers library, or the fast tokenizer of the extra ``fast``."""

    LIBRARY = 0
    FAST = 1
    UNPROVEN = 2
    """The library, as the fast tokenizer has not proven itself on this model."""
    CAUGHT = 3
    """The library, as the fast tokenizer, in use before, was found to differ."""


@dataclass(kw_only=True)
class Encoding:
    """Vectors of ``n`` texts. Encoders return it, the row encoder assembles it from parts, the cache merges it.

    Attributes:
        vectors: float32 [n, dim], C-contiguous, on the host; zero where the text has none.
        n_tokens: int32 [n], tokens before truncation, prompt and special tokens included; valid where ``counted``. Of a
            text of more than 65,536 characters at least so many: only its beginning may have been tokenized.
        counted: bool [n], false where the text failed or the encoder has no tokenizer that can count.
        truncated: bool [n], whether the text exceeded the encoder's ``max_tokens``, so that its end was left out.
        tokens_by: int8 [n], of ``TokensBy``.
        windows: int32 [n], windows that the text was embedded by: 1 unless it is long; 0 where it failed.
        unasked: bool [n], texts that were not sent because a budget or a stop ended the run: neither embedded nor
            failed.
        errors: the error of each text that failed, by position.
    """

    vectors: npt.NDArray[np.float32]
    n_tokens: npt.NDArray[np.int32]
    counted: Flags
    truncated: Flags
    tokens_by: npt.NDArray[np.int8]
    windows: npt.NDArray[np.int32]
    unasked: Flags
    errors: dict[int, RowError] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        vectors: npt.NDArray[np.float32],
        *,
        n_tokens: npt.NDArray[np.int32] | None = None,
        truncated: Flags | None = None,
        tokens_by: TokensBy = TokensBy.LIBRARY,
        windows: npt.NDArray[np.int32] | None = None,
    ) -> Encoding:
        """Returns an encoding without errors; without ``n_tokens`` no text counts as counted."""
        n = len(vectors)
        return cls(
            vectors=vectors,
            n_tokens=np.zeros(n, np.int32) if n_tokens is None else n_tokens,
            counted=np.full(n, n_tokens is not None),
            truncated=np.zeros(n, np.bool_) if truncated is None else truncated,
            tokens_by=np.full(n, tokens_by, np.int8),
            windows=np.ones(n, np.int32) if windows is None else windows,
            unasked=np.zeros(n, np.bool_),
        )

    @classmethod
    def blank(cls, n: int, dim: int) -> Encoding:
        """Returns the encoding of ``n`` texts of which nothing is known yet."""
        return cls.of(np.zeros((n, dim), np.float32))

    def failed(self) -> Flags:
        """Returns bool [n], true where the text failed."""
        failed = np.zeros(len(self.vectors), np.bool_)
        failed[list(self.errors)] = True
        return failed

    def fail(self, row: int, error_class: str, message: str) -> None:
        """Removes the vector of a text and records the error, its message on one line and cut short."""
        self.vectors[row], self.counted[row], self.truncated[row], self.windows[row] = 0.0, False, False, 0
        self.errors[row] = RowError(error_class, one_line(message, _MESSAGE_LENGTH))

    def copy_from(self, to: Positions, other: Encoding, rows: Positions) -> None:
        """Copies the rows ``rows`` of ``other``, in order, to the positions ``to``."""
        for mine, theirs in (
            (self.vectors, other.vectors),
            (self.n_tokens, other.n_tokens),
            (self.counted, other.counted),
            (self.truncated, other.truncated),
            (self.tokens_by, other.tokens_by),
            (self.windows, other.windows),
            (self.unasked, other.unasked),
        ):
            mine[to] = theirs[rows]
        if other.errors:
            pairs = zip(to.tolist(), rows.tolist(), strict=True)
            self.errors |= {position: other.errors[row] for position, row in pairs if row in other.errors}

    def take(self, rows: Positions) -> Encoding:
        """Returns the encoding of some of the texts, in the order of ``rows``."""
        some = Encoding.blank(len(rows), self.vectors.shape[1])
        some.copy_from(np.arange(len(rows)), self, rows)
        return some
