"""A stand-in for a model: vectors derived from the text's hash, for benchmarks and tests of everything but the model.

The vectors have no meaning: two texts that differ in one letter are as far apart as any two. To the rest of the
pipeline they look like a model's: unit length, full entropy, the same for the same text on every machine.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from vecfill.encode.block_progress import Advance, no_progress
from vecfill.encode.device.learned_batches import MAX_BATCH_TOKENS, LearnedBatches
from vecfill.encode.encoding import Encoding

_ROWS: Final = 1024
"""Rows mixed at once: at 384 dimensions the intermediate arrays stay within a core's cache."""

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST: Final = np.uint64(31)


class HashEncoder:
    """Encodes texts as pseudo-random unit vectors.

    Each text's 128-bit BLAKE2b gives two words; SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) turns the first
    plus a counter into as many 64-bit words as the vector needs, the second keeps texts apart that share the first.
    Components are odd 17-bit integers, so that their squares add up exactly in float64 whatever the order: no
    machine's SIMD width can change a bit of the result, and no vector is zero.
    """

    device: Final = "cpu"
    dtype: Final = "float32"
    way: Final = "stand-in"
    max_tokens: Final = None

    def __init__(self, dim: int, salt: bytes = b"") -> None:
        self.dim, self._salt, self.learned = dim, salt, LearnedBatches()

    def encode(
        self, texts: list[str], max_batch_tokens: int = MAX_BATCH_TOKENS, advance: Advance = no_progress
    ) -> Encoding:
        """Returns float32 unit vectors [n, dim]; without tokens nothing is counted or truncated.

        ``max_batch_tokens`` is part of the protocol and ignored here.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), _ROWS):
            vectors[start : start + _ROWS] = self._unit_vectors(texts[start : start + _ROWS])
            advance(_ROWS / len(texts))
        return Encoding.of(vectors)

    def encode_query(self, text: str) -> npt.NDArray[np.float32]:
        """Returns the vector [dim] of one text, the same as ``encode`` gives."""
        vector: npt.NDArray[np.float32] = self._unit_vectors([text])[0]
        return vector

    def _unit_vectors(self, texts: list[str]) -> npt.NDArray[np.float32]:
        words = _mix(_seeds(texts, self._salt), -(-self.dim // 4))
        components = words.astype("<u8", copy=False).view("<i2")[:, : self.dim].astype(np.float64)
        components *= 2.0
        components += 1.0
        norms = np.sqrt(np.einsum("ij,ij->i", components, components))
        vectors: npt.NDArray[np.float32] = (components / norms[:, None]).astype(np.float32)
        return vectors


def _seeds(texts: list[str], salt: bytes) -> npt.NDArray[np.uint64]:
    """Hashes texts to uint64 [n, 2]; lone surrogates, which PostgreSQL never stores, hash like any other text."""
    encoded = (text.encode("utf-8", "surrogatepass") for text in texts)
    digests = b"".join(blake2b(text, digest_size=16, salt=salt).digest() for text in encoded)
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2).astype(np.uint64, copy=False)


def _mix(seeds: npt.NDArray[np.uint64], words: int) -> npt.NDArray[np.uint64]:
    """Expands seeds [n, 2] to uint64 [n, words] by SplitMix64 over a counter; arithmetic wraps at 2^64 on purpose."""
    counter = np.arange(1, words + 1, dtype=np.uint64) * _GOLDEN
    state = seeds[:, :1] + counter
    for shift, factor in _MIX:
        state ^= state >> shift
        state *= factor
    state ^= state >> _LAST
    state ^= seeds[:, 1:] * (counter | np.uint64(1))
    return state
