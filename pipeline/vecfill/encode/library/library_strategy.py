"""Chooses how the library computes on a GPU: padded, or flattened texts where that is right and faster."""

from __future__ import annotations

import logging

from sentence_transformers import SentenceTransformer

from vecfill.config.model import Model
from vecfill.encode.device.compute_device import device_kind
from vecfill.encode.device.forward import Forward
from vecfill.encode.device.learned_batches import MAX_BATCH_TOKENS
from vecfill.encode.device.precision import AGREE_COSINE
from vecfill.encode.library.flattened_attention import attention_of, possible_attentions
from vecfill.encode.library.flattened_pass import FlattenedPass
from vecfill.encode.library.padded_pass import inputs_of
from vecfill.encode.library.strategy_probe import lowest_cosine, tokens_per_s
from vecfill.encode.model.fingerprint import files_of
from vecfill.encode.remembered import Remembered, versions_of
from vecfill.encode.row_encoder import is_out_of_memory
from vecfill.encode.tokens.hard_texts import hard_texts

_log = logging.getLogger(__name__)

PADDED = "padded"

_LIBRARIES = ("torch", "transformers", "sentence-transformers", "flash-attn", "flash-attn-3", "vecfill")

_LONGEST = 1_024
"""Tokens of the longest probe texts, for models that take 32,768."""

IMPOSSIBLE = (RuntimeError, ImportError, ValueError, TypeError, KeyError)
"""What transformers and torch raise for an attention that a model or a GPU does not take."""


class StrategyChoice:
    """The choice for one net. Make it before the net computes in another type than float32."""

    def __init__(self, model: Model, net: SentenceTransformer, padded: Forward, max_tokens: int | None) -> None:
        """Reads what is remembered; else computes what is right, in float32.

        Args:
            model: what the net was loaded from.
            net: the library's.
            padded: the pass over padded texts.
            max_tokens: length in tokens that texts are cut to.
        """
        self._net, self._padded = net, padded
        conditions = {"files": files_of(model), "device": device_kind(net.device.type), "dtype": model.dtype}
        self._kept = Remembered("strategies", {**conditions, "with": versions_of(_LIBRARIES)})
        known = (self._kept.read() or {}).get("strategy")
        self._known: str | None = known if known in (PADDED, *possible_attentions()) else None
        if self._known is None:
            tokenizer = net.tokenizer
            self._texts = hard_texts(min(max_tokens or _LONGEST, _LONGEST), tokenizer.get_added_vocab())
            self._right = padded.encode(self._texts, MAX_BATCH_TOKENS).vectors

    def fastest(self, prompt: str | None) -> tuple[Forward, str]:
        """Returns the fastest pass that is right in the net's type, and its name; found once and remembered.

        Leaves the net with the attention that the pass needs.

        Args:
            prompt: put before each text.
        """
        _, constants = inputs_of(self._net, ["a"], prompt)
        flattened = self._padded.with_pass(lambda feed: FlattenedPass(self._net, constants, feed))
        name = self._known or self._measured(flattened)
        if name == PADDED:
            return self._padded, name
        with attention_of(self._net, name) as keep:
            keep()
        return flattened, name

    def _measured(self, flattened: Forward) -> str:
        """Measures all strategies that are right, and remembers them."""
        least = min(AGREE_COSINE, self._cosine(self._padded))
        rates, fits = {PADDED: tokens_per_s(self._padded)}, True
        for name in possible_attentions():
            try:
                with attention_of(self._net, name):
                    cosine = self._cosine(flattened)
                    if cosine >= least:
                        rates[name] = tokens_per_s(flattened)
                    else:
                        _log.info("strategy %s is not right for this model: cosine %.5f", name, cosine)
            except IMPOSSIBLE as error:
                fits = fits and not is_out_of_memory(error)
                _log.info("strategy %s is not possible here: %s", name, error)
        best = max(rates, key=lambda name: rates[name])
        _log.info("strategy: %s (tokens/s: %s)", best, {name: round(rate) for name, rate in rates.items()})
        if not fits:  # another process may have held the memory
            return best
        try:
            self._kept.save({"strategy": best, "rates": rates})
        except OSError as error:
            _log.info("the strategy is not kept, so that each process measures it again: %s", error)
        return best

    def _cosine(self, forward: Forward) -> float:
        return lowest_cosine(forward.encode(self._texts, MAX_BATCH_TOKENS).vectors, self._right)
