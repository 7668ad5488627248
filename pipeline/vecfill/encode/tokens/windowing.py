"""From texts to windows: where a tokenizer's special tokens and a prompt stand, and what each window repeats."""

from __future__ import annotations

from itertools import chain

from tokenizers import Tokenizer

from vecfill.config.model import Model
from vecfill.encode.tokens.fast_tokenization import FastTokenization
from vecfill.encode.tokens.text_pieces import TextPieces, merged
from vecfill.encode.tokens.tokenization import Tokenization, TokenizerSpec, special_ends
from vecfill.encode.tokens.windows import Windows, WindowShape
from vecfill.errors import ConfigError

_PROBES = ("a engineer", "Zürich", "7", "数据", "- x", "слово")
"""Texts: what a tokenizer makes of the prompt before all of them is repeated in each window."""


def window_shape(tokenizer: Tokenizer, prompt: str | None, limit: int, overlap: int, name: str) -> WindowShape:
    """Returns the shape of a tokenizer's windows.

    Args:
        tokenizer: without truncation.
        prompt: put before each text. Tokens of it that merge with the text's are not repeated.
        limit: most tokens of a window.
        overlap: tokens that two neighbours share.
        name: of the model, for messages.

    Raises:
        ConfigError: the limit has no room for the text; the overlap leaves no step; the tokenizer puts its special
            tokens elsewhere than before and behind the text.
    """
    before, tail = special_tokens(tokenizer, name)
    head = before + _prompt_tokens(tokenizer, prompt or "")
    body = limit - head - tail
    if body < 1:
        raise ConfigError(
            f"--long is mean but prompt and special tokens fill the {limit} tokens that model {name} takes: "
            "shorten the prompt, or raise --max-tokens"
        )
    if overlap >= body:
        raise ConfigError(
            f"--overlap is {overlap} but a window of model {name} holds {body} tokens of text: choose 0 to {body - 1}"
        )
    return WindowShape(head=head, body=body, tail=tail, overlap=overlap)


def special_tokens(tokenizer: Tokenizer, name: str) -> tuple[int, int]:
    """The special tokens before and behind a text."""
    ends = special_ends(tokenizer)
    if ends is None:
        raise ConfigError(f"--long is mean but model {name} has special tokens within its texts: leave it out")
    return ends


def _prompt_tokens(tokenizer: Tokenizer, prompt: str) -> int:
    """Tokens with which every text begins."""
    found = [tokenizer.encode(prompt + probe, add_special_tokens=False).ids for probe in ("", *_PROBES)]
    same = [len(set(column)) == 1 for column in zip(*found, strict=False)]
    return same.index(False) if False in same else len(same)


class Windowing:
    """Turns texts into windows; the counterpart of a ``Tokenization`` that truncates."""

    def __init__(self, tokenize: Tokenization, limit: int, overlap: int, name: str) -> None:
        """Takes a tokenization without a limit.

        Raises:
            ConfigError: as ``window_shape``.
        """
        self._tokenize, self._limit, self._overlap, self._name = tokenize, limit, overlap, name
        self._shape = window_shape(tokenize.tokenizer, tokenize.prompt, limit, overlap, name)
        self._pieces, self._special = TextPieces(tokenize.tokenizer), special_tokens(tokenize.tokenizer, name)

    def with_prompt(self, prompt: str | None) -> Windowing:
        """Returns the same windowing with another prompt.

        Raises:
            ConfigError: as ``window_shape``.
        """
        return Windowing(self._tokenize.with_prompt(prompt), self._limit, self._overlap, self._name)

    def __call__(self, texts: list[str]) -> Windows:
        """Tokenizes and cuts."""
        prompt, plain = self._tokenize.prompt, self._tokenize.with_prompt(None)
        pieces = [list(self._pieces(prompt + text if prompt else text)) for text in texts]
        tokens = merged(plain(list(chain.from_iterable(pieces))), [len(one) for one in pieces], *self._special)
        return Windows(tokens, self._shape)


def tokenize_for(model: Model, spec: TokenizerSpec, limit: int | None, prompt: str | None) -> Tokenization | Windowing:
    """Returns what prepares a model's texts: it truncates at the limit, or cuts windows of that length.

    Raises:
        ConfigError: windows without a limit; or as ``window_shape``.
    """
    kind = Tokenization if model.encoder == "library" else FastTokenization
    if model.long == "truncate":
        return kind(spec, limit, prompt)
    if limit is None:
        raise ConfigError(
            f"--long is {model.long} but model {model.name} has no length limit, so that no text is long: leave it "
            "out, or set --max-tokens"
        )
    return Windowing(kind(spec, None, prompt), limit, model.overlap, model.name)
