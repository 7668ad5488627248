"""Counts a model's tokens by its files alone: its ``tokenizer.json``, prompt and declared limit. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vecfill.config.model import Model
from vecfill.encode.api.token_counts import INPUT_TOKENS, Counts, Estimate, count_tokens, read_tokenizer
from vecfill.encode.model.model_files import ReadJson, fetched, reader
from vecfill.encode.model.model_location import hash_dimension, locate_model
from vecfill.encode.model.prompts import prompt_of_rows
from vecfill.encode.tokens.windows import WindowShape

_PADDED_POSITIONS = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"}
"""Kinds of models whose positions start after the padding token: 514 of them hold 512 tokens."""

_UNLIMITED = 10**9
"""Tokenizers without a limit declare 10^30."""

OWN, BY_BYTES = "the model's own", "0.4 a byte instead of a"


@dataclass(frozen=True)
class DeclaredTokens:
    """A model's tokens.

    Attributes:
        tokenizer: ``OWN``, ``BY_BYTES``, or the name of the API's tokenizer.
        limit: tokens of a text that the model reads; None if its files do not say.
        shape: of the windows that longer texts are embedded by; None where they are truncated.
    """

    tokenizer: str
    limit: int | None
    _counter: Any
    _prompt: str = ""
    shape: WindowShape | None = None

    def by_windows(self, model: Model) -> DeclaredTokens:
        """Returns the same with the windows that the model's settings ask for, if its files say how long they are.

        Raises:
            ConfigError: as ``window_shape``.
        """
        if model.long == "truncate" or self.limit is None:
            return self
        from vecfill.encode.tokens.windowing import window_shape

        shape = window_shape(self._counter, self._prompt, self.limit, model.overlap, model.name)
        return replace(self, shape=shape)

    def count(self, texts: list[str]) -> Counts:
        """Returns int32 [n], the tokens of each text before truncation, with prompt and special tokens."""
        prompted = [self._prompt + text for text in texts] if self._prompt else texts
        if self._counter is None:
            return Estimate().prepare(prompted).tokens
        return count_tokens(self._counter, prompted)


def declared_tokens(model: Model) -> DeclaredTokens | None:
    """Returns what counts a model's tokens; None if its files have no tokenizer, as those of ``hash:DIM``.

    Raises:
        ConfigError: as ``locate_model``; the model cannot be reached, or its tokenizer cannot be read.
    """
    if model.is_api:
        name, prompt = model.api.tokenizer, model.prompt or ""
        limit = model.max_tokens or (INPUT_TOKENS if name else None)
        return DeclaredTokens(name or BY_BYTES, limit, read_tokenizer(name) if name else None, prompt)
    if hash_dimension(model) is not None:
        return None
    location = locate_model(model)
    read = reader(location, model.revision)
    modules = read("modules.json") or [{"path": ""}]
    folder = f"{modules[0]['path']}/" if modules[0]["path"] else ""
    file = fetched(location, f"{folder}tokenizer.json", model.revision)
    if file is None or not file.is_file():
        return None
    limit, tokenizer, prompt = _limit(model, read, folder), read_tokenizer(str(file)), prompt_of_rows(model) or ""
    return DeclaredTokens(OWN, limit, tokenizer, prompt)


def _limit(model: Model, read: ReadJson, folder: str) -> int | None:
    """The length that texts are cut to, as ``token_limit`` finds it in the loaded model."""
    config = read(f"{folder}config.json") or {}
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _PADDED_POSITIONS:
        positions -= 1 + int(config.get("pad_token_id", 1))
    own = (read(f"{folder}sentence_bert_config.json") or {}).get("max_seq_length")
    if own is None:
        own = (read(f"{folder}tokenizer_config.json") or {}).get("model_max_length")
    known = [one for one in (model.max_tokens or own, positions) if isinstance(one, int) and 0 < one < _UNLIMITED]
    return min(known, default=None)
