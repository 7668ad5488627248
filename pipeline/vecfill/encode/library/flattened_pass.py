"""The library's pass over texts without padding: its own modules, on flattened inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from vecfill.encode.device.device_feed import Feed
from vecfill.encode.device.packing import boundaries_of, positions_of
from vecfill.encode.device.token_batches import packed_batches
from vecfill.encode.encoding import Positions
from vecfill.encode.library.flattened_attention import PLACES
from vecfill.encode.library.padded_pass import sentence_vectors
from vecfill.encode.tokens.tokenization import Inputs


class FlattenedPass:
    """Computes a batch's texts one after the other, without padding; see ``flattened_attention.attention_of``."""

    batches = staticmethod(packed_batches)

    def __init__(self, net: SentenceTransformer, constants: dict[str, Any], feed: Feed) -> None:
        """Takes the net, the inputs that are the same for all texts, and the device."""
        self._net, self._constants, self._feed = net, constants, feed
        self._padding = _padding(net)

    def __call__(self, inputs: Inputs, rows: Positions) -> torch.Tensor:
        """Returns float32 [len(rows), width] on the device."""
        ids, types = inputs.packed(rows)
        lengths = inputs.lengths[rows].astype(np.int64)
        arrays = {"input_ids": ids, "position_ids": positions_of(ids, lengths, self._padding)}
        if types is not None:
            arrays["token_type_ids"] = types
        boundaries, *moved = self._feed.to_device(boundaries_of(lengths), *arrays.values())
        features: dict[str, Any] = {name: one.long()[None] for name, one in zip(arrays, moved, strict=True)}
        longest = int(lengths.max())
        features |= dict(zip(PLACES, (boundaries, boundaries, longest, longest), strict=True))
        return sentence_vectors(self._net, features | self._constants)


def _padding(net: SentenceTransformer) -> int | None:
    """Returns the padding token's id where positions are counted behind it (RoBERTa), else None."""
    for module in net.modules():
        padding = getattr(module, "padding_idx", None)
        if isinstance(padding, int) and isinstance(getattr(module, "position_embeddings", None), torch.nn.Embedding):
            return padding
    return None
