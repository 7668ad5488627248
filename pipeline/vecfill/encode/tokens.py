"""Tokenizing by a tokenizer of our own: each text once, without padding, in threads, and safe beside the library's.

transformers sets padding and truncation on the tokenizer that it shares with everyone at each call. Ours is a clone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from tokenizers import Tokenizer

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of ``n`` texts, as the model takes them.

    Attributes:
        ids: int64 [sum of lengths], one text after the other; special tokens and prompt included.
        types: the same for the token types, None where the model takes none.
        starts: int64 [n], where each text starts in ``ids``.
        lengths: int32 [n], tokens after truncation.
        n_tokens: int32 [n], tokens before it.
    """

    ids: Ids
    types: Ids | None
    starts: Ids
    lengths: npt.NDArray[np.int32]
    n_tokens: npt.NDArray[np.int32]


class Tokenization:
    """Texts to tokens, and tokens to the rectangles that a model takes."""

    def __init__(self, net: SentenceTransformer, clone: Tokenizer, max_tokens: int | None, prompt: str | None) -> None:
        """Takes a clone of the net's tokenizer; see ``tokenization_of``."""
        self._tokenizer, self._prompt = clone, prompt or ""
        self._names = set(net.tokenizer.model_input_names)
        self._pad = {"input_ids": net.tokenizer.pad_token_id or 0, "token_type_ids": net.tokenizer.pad_token_type_id}
        self._left = net.tokenizer.padding_side == "left"
        self._special = clone.num_special_tokens_to_add(False)
        clone.no_padding()
        if max_tokens is None:
            clone.no_truncation()
        else:
            direction = net.tokenizer.truncation_side
            clone.enable_truncation(max_tokens, strategy="longest_first", direction=direction)

    def __call__(self, texts: list[str]) -> Tokens:
        """Tokenizes; the Rust code lets other threads of this process run meanwhile."""
        found = self._tokenizer.encode_batch_fast([self._prompt + text for text in texts] if self._prompt else texts)
        lengths = np.fromiter((len(one) for one in found), np.int32, len(found))
        cut = [sum(len(rest) - self._special for rest in one.overflowing) for one in found]
        has_types = "token_type_ids" in self._names
        return Tokens(
            ids=_flat([one.ids for one in found], lengths),
            types=_flat([one.type_ids for one in found], lengths) if has_types else None,
            starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)[:-1]]),
            lengths=lengths,
            n_tokens=lengths + np.asarray(cut, np.int32),
        )

    def padded(self, tokens: Tokens, rows: npt.NDArray[np.int64]) -> dict[str, Ids]:
        """The model's inputs for some texts: int64 [len(rows), longest], padded on the tokenizer's own side."""
        lengths = tokens.lengths[rows].astype(np.int64)[:, None]
        width = int(lengths.max())
        column = np.arange(width)[None, :] - (width - lengths if self._left else 0)
        inside = (column >= 0) & (column < lengths)
        source = np.where(inside, tokens.starts[rows][:, None] + column, 0)
        features = {"input_ids": np.where(inside, tokens.ids[source], self._pad["input_ids"])}
        if tokens.types is not None:
            features["token_type_ids"] = np.where(inside, tokens.types[source], self._pad["token_type_ids"])
        features["attention_mask"] = inside.astype(np.int64)
        return features


def _flat(lists: list[list[int]], lengths: npt.NDArray[np.int32]) -> Ids:
    return np.fromiter((token for one in lists for token in one), np.int64, int(lengths.sum()))


def tokenization_of(net: SentenceTransformer, max_tokens: int | None, prompt: str | None) -> Tokenization | None:
    """Returns a tokenization for the net, or None where only the library knows how to prepare its texts.

    That is: a first module other than Transformer, no fast tokenizer, texts that go through a chat template, and
    settings of the module that change the texts or the inputs.
    """
    first = net[0]
    tokenizer = getattr(net, "tokenizer", None)
    plain = isinstance(first, Transformer) and "message" not in net.modalities and not first.processing_kwargs
    if not plain or tokenizer is None or not getattr(tokenizer, "is_fast", False):
        return None
    if first.transformer_task != "feature-extraction":
        return None
    return Tokenization(net, Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), max_tokens, prompt)
