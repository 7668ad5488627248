"""What an encoder is, whatever computes its vectors: a local model, an API, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

MOST_TOKENS = 65_536
"""Tokens that a batch may have before memory has ever run out."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Vectors of ``n`` texts.

    Attributes:
        vectors: float32 [n, dim], C-contiguous, on the host.
        n_tokens: int32 [n], tokens before truncation, prompt and special tokens included; None where the encoder has
            no tokenizer that can tell.
        truncated: bool [n], whether the text passed the encoder's ``max_tokens``.
        errors: why a text has no vector, by position, where the encoder found the faulty texts itself.
        unasked: bool [n], texts that a budget did not reach, which are to be left as they are; None for none.
    """

    vectors: npt.NDArray[np.float32]
    n_tokens: npt.NDArray[np.int32] | None
    truncated: npt.NDArray[np.bool_]
    errors: Mapping[int, str] = field(default_factory=dict)
    unasked: npt.NDArray[np.bool_] | None = None


class Encoder(Protocol):
    """A loaded model."""

    @property
    def dim(self) -> int:
        """Length of the vectors."""

    @property
    def device(self) -> str:
        """``cuda``, ``cpu`` or ``api``."""

    @property
    def dtype(self) -> str:
        """That the model computes in, such as ``float32``."""

    @property
    def max_tokens(self) -> int | None:
        """Length in tokens that texts are cut to; None without a limit."""

    def encode(self, texts: list[str], most_tokens: int) -> Encoding:
        """Gives the vectors of the texts, with batches of at most ``most_tokens`` tokens in the device's memory."""

    def encode_query(self, text: str) -> npt.NDArray[np.float32]:
        """Gives the float32 vector [dim] of a search query."""
