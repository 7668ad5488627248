"""Encodes with our own forward pass; imports torch, safetensors and tokenizers, and neither library."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from vecfill.config.model import Model
from vecfill.encode.block_progress import Advance, no_progress
from vecfill.encode.encoder import MAX_BATCH_TOKENS
from vecfill.encode.encoding import Encoding, Positions
from vecfill.encode.forward import Forward
from vecfill.encode.model_files import dimension_of
from vecfill.encode.native.architecture import NotNativeError
from vecfill.encode.native.module_chain import ModuleChain
from vecfill.encode.native.packed_transformer import PackedTransformer, runs_of
from vecfill.encode.native.proof import Proof
from vecfill.encode.native.sentence_vector import SentenceVector
from vecfill.encode.native.weights import transformer_weights
from vecfill.encode.prompts import declared, row_prompt
from vecfill.encode.token_limit import check_limit
from vecfill.encode.tokenization import Tokenization, Tokens


class NativeEncoder:
    """Encodes texts as ``TransformerEncoder`` does, on a CPU.

    Attributes:
        dim: length of the vectors.
        device: ``cpu``.
        dtype: type that the transformer computes in; the returned vectors are always float32.
        max_tokens: length in tokens that texts are cut to; None if the model has no limit.
    """

    device: Final = "cpu"
    way: Final = "native"

    def __init__(self, model: Model, chain: ModuleChain, folder: Path, proof: Proof) -> None:
        """Loads the model.

        Args:
            model: what to load.
            chain: its modules.
            folder: of its files.
            proof: that our pass computes this model as the library does, with what it takes from the library.

        Raises:
            ConfigError: an unknown prompt name; truncate_dim or max_tokens outside the model's range.
            NotNativeError: a weight is missing.
        """
        check_limit(model, proof.limits)
        dim = dimension_of(model)
        if dim is None:
            raise NotNativeError("its files do not say how long its vectors are")
        prompts, default = declared(model)
        own = model.prompt is not None or model.prompt_name is not None
        self.dim, self.dtype = dim, proof.dtype
        self.max_tokens = model.max_tokens or proof.max_tokens
        prompt = row_prompt(model, prompts, default)
        rows = Tokenization(proof.tokenizer, self.max_tokens, prompt)
        self._queries = rows.with_prompt(prompt if own else prompts.get("query"))
        compute = PackedPass(chain, folder, getattr(torch, proof.dtype), dim)
        self._forward = Forward(rows, compute, dim, torch.device("cpu"))

    def encode(self, texts: list[str], max_batch_tokens: int, advance: Advance = no_progress) -> Encoding:
        """Returns the vectors of ``SentenceTransformer.encode`` for the texts, as float32 [n, dim].

        Raises:
            Exception: any error of the tokenizer or torch; the call leaves nothing behind.
        """
        return self._forward.encode(texts, max_batch_tokens, advance)

    def encode_query(self, text: str) -> npt.NDArray[np.float32]:
        """Returns the float32 vector [dim] of a search query.

        Uses the model's own query prompt, unless the configuration sets a prompt: then rows and queries get the same
        one.
        """
        vector: npt.NDArray[np.float32] = self._forward(self._queries([text]), MAX_BATCH_TOKENS)[0]
        return vector


class PackedPass:
    """Computes a batch's texts one after the other, without padding."""

    def __init__(self, chain: ModuleChain, folder: Path, dtype: torch.dtype, dim: int) -> None:
        """Reads the weights; vectors are cut to ``dim``."""
        weights = transformer_weights(folder / chain.folder, chain.architecture, dtype)
        self._transformer = PackedTransformer(chain.architecture, weights)
        self._sentence, self._dim = SentenceVector(chain, folder), dim

    def __call__(self, tokens: Tokens, rows: Positions) -> torch.Tensor:
        """Returns float32 [len(rows), dim]."""
        ids, types = tokens.packed(rows)
        runs = runs_of(tokens.lengths[rows].tolist())
        kinds = None if types is None or not types.any() else torch.from_numpy(types)
        return self._sentence(self._transformer(torch.from_numpy(ids), kinds, runs), runs)[:, : self._dim]
