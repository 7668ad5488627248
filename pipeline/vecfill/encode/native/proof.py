"""Remembers, in the cache folder, whether our pass gives a model's vectors as the library does. Imports no torch.

A proof counts for the content of the model's files, a kind of device, a type, the versions of the libraries, and this
package's own code: whatever differs has another name, and is proven anew.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from vecfill.config.model import Model
from vecfill.encode.model.fingerprint import files_of
from vecfill.encode.remembered import Remembered, code_of, digest_of, versions_of
from vecfill.encode.tokens.tokenization import TokenizerSpec
from vecfill.folders import replace_file

_log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers", "safetensors")
_ROOMS = ("model", "tokens", "device", "library", "native")
"""Of ``encode/``, whose code the proof is about."""

CODE = Path(__file__).parents[1]
"""The folder ``encode/``."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a comparison of our pass with the library found, and what our pass takes from the library.

    Attributes:
        agrees: whether our pass computes; else the library does, for ``reason``.
        reason: why not; empty where it agrees.
        attention: name of the strategy that was right and the fastest here, see ``attention``.
        rates: tokens a second of each strategy and of the library; empty on a CPU, where there is no choice.
        dtype: type that our pass computes in.
        cosine: lowest cosine of a text's two vectors.
        difference: largest difference between them.
        max_tokens: length in tokens that texts are cut to, where the user sets none.
        limits: lowest and highest length that the user may set; None if there is no highest.
        tokenizer: the one that the library makes of the model's files.
    """

    agrees: bool
    reason: str = ""
    attention: str = "runs"
    rates: dict[str, float] = field(default_factory=dict)
    dtype: str
    cosine: float
    difference: float
    max_tokens: int | None
    limits: tuple[int, int | None]
    tokenizer: TokenizerSpec


class ProofStore:
    """The proof of one model on one kind of device, in the user's cache folder."""

    def __init__(self, model: Model, device: str) -> None:
        """Finds the place of the proof.

        Args:
            model: its files and its type count, its other settings do not.
            device: kind of the device, with what its arithmetic depends on.

        Raises:
            ConfigError: the model's files cannot be read.
        """
        conditions = {"files": files_of(model), "device": device, "dtype": model.dtype, "with": _versions()}
        self._kept = Remembered("proofs", conditions)

    def read(self) -> Proof | None:
        """Returns the proof; None if there is none, or none that can be read."""
        found, folder = self._kept.read(), self._kept.folder
        if found is None or folder is None:
            return None
        try:
            tokenizer = dict(found["tokenizer"])
            definition = (folder / f"{tokenizer['definition']}.json").read_text(encoding="utf-8")
            if digest_of(definition) != tokenizer["definition"]:
                return None
            tokenizer |= {"definition": definition, "pad": tuple(tokenizer["pad"])}
            limits = tuple(found["limits"])
            return Proof(**found | {"tokenizer": TokenizerSpec(**tokenizer), "limits": limits})
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.debug("no proof of the model in the cache: %s", error)
            return None

    def save(self, proof: Proof) -> None:
        """Remembers a proof, if the cache folder can be written; several processes may do so at once."""
        folder = self._kept.folder
        if folder is None:
            return
        definition = proof.tokenizer.definition
        spec = replace(proof.tokenizer, definition=digest_of(definition))
        try:
            replace_file(folder / f"{spec.definition}.json", definition)
            self._kept.save(asdict(replace(proof, tokenizer=spec)))
        except OSError as error:
            _log.info("the proof of the model is not kept, so that each process makes it again: %s", error)


@functools.cache
def _versions() -> dict[str, str]:
    """The versions of the libraries, and a digest of the code that the proof is about."""
    return versions_of(_LIBRARIES) | {"native": code_digest(CODE)}


def code_digest(encode: Path) -> str:
    """Returns a digest of the code that computes vectors, in the folder ``encode/``."""
    return code_of(*(encode / room for room in _ROOMS))
