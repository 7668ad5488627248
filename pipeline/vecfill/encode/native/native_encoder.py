"""Encodes with our own forward pass; imports torch, safetensors and tokenizers, and neither library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from vecfill.config.model import Model
from vecfill.encode.block_progress import Advance, no_progress
from vecfill.encode.device.compute_device import resolve_device
from vecfill.encode.device.device_feed import Feed, Integers
from vecfill.encode.device.forward import Forward
from vecfill.encode.device.learned_batches import MAX_BATCH_TOKENS
from vecfill.encode.device.packing import Packing, boundaries_of, positions_of
from vecfill.encode.device.token_batches import packed_batches, token_batches
from vecfill.encode.encoding import Encoding, Positions
from vecfill.encode.library.token_limit import check_limit
from vecfill.encode.model.model_files import dimension_of
from vecfill.encode.model.prompts import declared, row_prompt
from vecfill.encode.native.architecture import NotNativeError
from vecfill.encode.native.attention import STRATEGIES, Attention
from vecfill.encode.native.module_chain import ModuleChain
from vecfill.encode.native.packed_transformer import PackedTransformer
from vecfill.encode.native.proof import Proof
from vecfill.encode.native.sentence_vector import SentenceVector
from vecfill.encode.native.weights import transformer_weights
from vecfill.encode.tokens.tokenization import Inputs
from vecfill.encode.tokens.windowing import tokenize_for


class NativeEncoder:
    """Encodes texts as ``TransformerEncoder`` does.

    Attributes:
        dim: length of the vectors.
        device: ``cuda`` or ``cpu``.
        way: ``native``; on a GPU with the attention's strategy, such as ``native varlen``.
        dtype: type that the transformer computes in; the returned vectors are always float32.
        max_tokens: length in tokens that texts are cut to; None if the model has no limit.
        forward: from texts or tokens to vectors.
        learned: the batch sizes that fit this device and are fast on it.
    """

    def __init__(self, model: Model, chain: ModuleChain, folder: Path, proof: Proof) -> None:
        """Loads the model.

        Args:
            model: what to load.
            chain: its modules.
            folder: of its files.
            proof: that our pass computes this model as the library does, with what it takes from the library.

        Raises:
            ConfigError: an unknown prompt name; truncate_dim or max_tokens outside the model's range; windows that do
                not fit, see ``tokenize_for``.
            NotNativeError: a weight is missing.
        """
        check_limit(model, proof.limits)
        dim = dimension_of(model)
        if dim is None:
            raise NotNativeError("its files do not say how long its vectors are")
        prompts, default = declared(model)
        own = model.prompt is not None or model.prompt_name is not None
        self.dim, self.dtype, self.device = dim, proof.dtype, resolve_device(model.device)
        self.way = "native" if self.device == "cpu" else f"native {proof.attention}"
        self.max_tokens = model.max_tokens or proof.max_tokens
        prompt = row_prompt(model, prompts, default)
        rows = tokenize_for(model, proof.tokenizer, self.max_tokens, prompt)
        self._queries = rows.with_prompt(prompt if own else prompts.get("query"))
        feed = Feed(torch.device(self.device))
        attention = STRATEGIES[proof.attention]()
        compute = PackedPass(chain, folder, attention, feed, dtype=getattr(torch, proof.dtype))
        self.forward = Forward(rows, compute, dim, feed, unit=chain.unit)
        self.learned = self.forward.remember(model, self.dtype, proof.attention)

    def encode(self, texts: list[str], max_batch_tokens: int, advance: Advance = no_progress) -> Encoding:
        """Returns the vectors of ``SentenceTransformer.encode`` for the texts, as float32 [n, dim].

        Raises:
            Exception: any error of the tokenizer or torch; the call leaves nothing behind.
        """
        return self.forward.encode(texts, max_batch_tokens, advance)

    def encode_query(self, text: str) -> npt.NDArray[np.float32]:
        """Returns the float32 vector [dim] of a search query.

        Uses the model's own query prompt, unless the configuration sets a prompt: then rows and queries get the same
        one.
        """
        vector: npt.NDArray[np.float32] = self.forward(self._queries([text]), MAX_BATCH_TOKENS)[0]
        return vector


class PackedPass:
    """Computes a batch's texts one after the other, without padding."""

    def __init__(
        self, chain: ModuleChain, folder: Path, attention: Attention, feed: Feed, *, dtype: torch.dtype
    ) -> None:
        """Reads the weights to the feed's device."""
        architecture = chain.architecture
        weights = transformer_weights(folder / chain.folder, architecture, feed.device, dtype)
        self._transformer = PackedTransformer(architecture, weights, attention)
        self._sentence = SentenceVector(chain, folder, feed.device)
        self._feed, self._padding = feed, architecture.padding
        self.batches = token_batches if attention.by_length else packed_batches

    def __call__(self, inputs: Inputs, rows: Positions) -> torch.Tensor:
        """Returns float32 [len(rows), width] on the device."""
        ids, types = inputs.packed(rows)
        lengths = inputs.lengths[rows].astype(np.int64)
        arrays: list[Integers] = [ids, positions_of(ids, lengths, self._padding), boundaries_of(lengths)]
        if types is not None and types.any():
            arrays.append(types)
        there, positions, boundaries, *kinds = self._feed.to_device(*arrays)
        texts = Packing(lengths=lengths.tolist(), boundaries=boundaries)
        found = self._transformer(there, positions, kinds[0] if kinds else None, texts)
        return self._sentence(found, texts)
