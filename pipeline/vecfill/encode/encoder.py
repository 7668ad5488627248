"""The interface of every encoder: a local model, an API, or the stand-in without a model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from vecfill.encode.block_progress import Advance, no_progress
from vecfill.encode.device.learned_batches import LearnedBatches
from vecfill.encode.encoding import Encoding


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
        """Type that the model computes in, such as ``float32``."""

    @property
    def way(self) -> str:
        """Who computes: ``native`` (our own pass), ``library`` (sentence-transformers), ``api`` or ``stand-in``."""

    @property
    def max_tokens(self) -> int | None:
        """Length in tokens that texts are cut to; None without a limit."""

    @property
    def learned(self) -> LearnedBatches:
        """The batch sizes that fit this device and are fast on it."""

    def encode(self, texts: list[str], max_batch_tokens: int, advance: Advance = no_progress) -> Encoding:
        """Encodes the texts, in batches of at most ``max_batch_tokens`` tokens in the device's memory.

        Calls ``advance`` meanwhile, if it can.
        """

    def encode_query(self, text: str) -> npt.NDArray[np.float32]:
        """Returns the float32 vector [dim] of a search query."""
