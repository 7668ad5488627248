"""Remembers, in the cache folder, whether our pass gives a model's vectors as the library does. Imports no torch.

A proof counts for the content of the model's files, a kind of device, a type, the versions of the libraries, and this
package's own code: whatever differs has another name, and is proven anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vecfill.config.model import Model
from vecfill.encode.fingerprint import files_of
from vecfill.encode.tokenization import TokenizerSpec
from vecfill.folders import cache, replace_file

_log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a comparison of our pass with the library found, and what our pass takes from the library.

    Attributes:
        agrees: whether our pass computes; else the library does, for ``reason``.
        reason: why not; empty where it agrees.
        dtype: type that our pass computes in.
        cosine: lowest cosine of a text's two vectors.
        difference: largest difference between them.
        max_tokens: length in tokens that texts are cut to, where the user sets none.
        limits: lowest and highest length that the user may set; None if there is no highest.
        tokenizer: the one that the library makes of the model's files.
    """

    agrees: bool
    reason: str = ""
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
        folder = cache()
        self._folder = folder / "proofs" if folder else None
        self._conditions = {"files": files_of(model), "device": device, "dtype": model.dtype, "with": _versions()}

    def read(self) -> Proof | None:
        """Returns the proof; None if there is none, or none that can be read."""
        if self._folder is None:
            return None
        try:
            found: dict[str, Any] = json.loads(self._place(self._folder).read_text(encoding="utf-8"))
            tokenizer = dict(found["tokenizer"])
            definition = (self._folder / f"{tokenizer['definition']}.json").read_text(encoding="utf-8")
            if found.pop("conditions") != self._conditions or _digest(definition) != tokenizer["definition"]:
                return None
            tokenizer |= {"definition": definition, "pad": tuple(tokenizer["pad"])}
            limits = tuple(found["limits"])
            return Proof(**found | {"tokenizer": TokenizerSpec(**tokenizer), "limits": limits})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            _log.debug("no proof of the model in the cache: %s", error)
            return None

    def save(self, proof: Proof) -> None:
        """Remembers a proof, if the cache folder can be written; several processes may do so at once."""
        if self._folder is None:
            return
        definition = proof.tokenizer.definition
        spec = replace(proof.tokenizer, definition=_digest(definition))
        facts = asdict(replace(proof, tokenizer=spec)) | {"conditions": self._conditions}
        try:
            replace_file(self._folder / f"{spec.definition}.json", definition)
            replace_file(self._place(self._folder), json.dumps(facts, indent=1))
        except OSError as error:
            _log.info("the proof of the model is not kept, so that each process makes it again: %s", error)

    def _place(self, folder: Path) -> Path:
        return folder / f"{_digest(json.dumps(self._conditions, sort_keys=True))[:32]}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _versions() -> dict[str, str]:
    """The versions of the libraries, and a digest of the code that the proof is about."""
    folder = Path(__file__).parent
    files = [*sorted(folder.glob("*.py")), folder.parent / "precision.py", folder.parent / "tokenization.py"]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    return {name: version(name) for name in _LIBRARIES} | {"native": _digest(code)[:16]}
