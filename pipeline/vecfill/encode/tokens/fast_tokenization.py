"""Tokenizes with a fast tokenizer as long as it gives the tokens of the tokenizers library.

Proof before use: many hard texts, once a process. Proof in use: a random sample of every block, before its vectors are
computed. A difference sends the block to the library, and ends the use of the fast one for this model.
"""

from __future__ import annotations

import logging
import math
import string
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vecfill.encode.encoding import Flags, Positions, TokensBy
from vecfill.encode.remembered import Remembered, code_of, digest_of, versions_of
from vecfill.encode.tokens.character_proof import CharacterProof
from vecfill.encode.tokens.fast_tokenizer import FastTokenizer, FastTokenizerError, is_installed
from vecfill.encode.tokens.hard_texts import hard_texts
from vecfill.encode.tokens.tokenization import Tokenization, TokenizerSpec, Tokens, joined, special_ends

_log = logging.getLogger(__name__)

PAYS_FROM_CHARS = 65_536
"""Characters of a process from which the fast tokenizer is loaded: what the library tokenizes in the time that takes. A
search or a small run never loads it."""

SAMPLE_TEXTS, SAMPLE_CHARS = 32, 4_096
"""Compare at least so many texts and characters of a block."""

FIRST_SHARE, FIRST_TEXTS, LATER_SHARE = 1 / 8, 100_000, 1 / 32
"""Shares of a block's texts, and of their characters, to compare: of a process's first 100,000 texts, and of later
ones.

A tokenizer that is wrong about one text in a thousand is found in a block of 2,000 texts with a probability of 22%, in
12 blocks with 95%, in 19 with 99%; one that begins to lie later with 6%, in 48 blocks with 95%. For MiniLM's tokenizer
a CPU second then gives 5 and 10 times the tokens of the library alone; without comparing 20."""

_generator = np.random.default_rng
"""Seeded by the operating system."""


def sample(texts: list[str], share: float) -> Positions:
    """Returns the positions of texts to compare, in order; drawn anew for each block, so that none is safe."""
    order = _generator().permutation(len(texts))[: max(SAMPLE_TEXTS, math.ceil(len(texts) * share))]
    chars = np.fromiter((len(texts[row]) for row in order), np.int64, len(order))
    most = max(SAMPLE_CHARS, sum(map(len, texts)) * share)
    return np.sort(order[: 1 + int(np.searchsorted(np.cumsum(chars), most))])


@dataclass(frozen=True)
class _Proven:
    """A fast tokenizer, and the characters in which it does as the library does."""

    tokens: Callable[[list[str]], Tokens]
    characters: CharacterProof


class FastTokenization(Tokenization):
    """A ``Tokenization`` that uses the fast tokenizer where that is installed, pays, and proves itself."""

    def __init__(self, spec: TokenizerSpec, max_tokens: int | None, prompt: str | None, **options: Any) -> None:
        """Makes it; see ``Tokenization``."""
        super().__init__(spec, max_tokens, prompt, **options)
        self._max_tokens = max_tokens
        self._trust = _Trust(spec.definition)

    def __call__(self, texts: list[str]) -> Tokens:
        """Tokenizes; several threads may call it."""
        prompted, trust = self._prompted(texts), self._trust
        fast = trust.fast(sum(map(len, prompted)), self._proven) if len(texts) > 1 else None
        if fast is not None:
            try:
                return self._checked(prompted, fast)
            except FastTokenizerError as error:
                trust.catch(str(error))
        return replace(self._by_library(prompted), by=trust.verdict)

    def _by_library(self, texts: list[str]) -> Tokens:
        return self._whole(texts, self._tokens)

    def _checked(self, texts: list[str], fast: _Proven) -> Tokens:
        """Tokenizes by the fast one, but for texts with a doubtful character, and compares a sample.

        Raises:
            FastTokenizerError: it failed, or was wrong.
        """
        doubtful = fast.characters.doubtful(texts)
        safe = [texts[row] for row in np.flatnonzero(~doubtful)]
        compared = sample(safe, self._trust.share(len(texts)))
        if len(compared) == len(safe):
            return self._by_library(texts)
        tokens = self._whole(safe, fast.tokens)
        wrong = _different(tokens, compared, self._by_library([safe[row] for row in compared]))
        if wrong.any():
            raise FastTokenizerError(f"{wrong.sum()} of {len(compared)} sampled texts of a block have other tokens")
        if not doubtful.any():
            return tokens
        others = self._by_library([texts[row] for row in np.flatnonzero(doubtful)])
        return joined([tokens, others]).take(np.argsort(np.argsort(doubtful, kind="stable")))

    def _proven(self) -> _Proven:
        """Loads the fast tokenizer and compares it with the library.

        Raises:
            FastTokenizerError: it cannot be used, or its tokens differ.
        """
        ends = special_ends(self._tokenizer)
        if ends is None or sum(ends) != self._special:
            raise FastTokenizerError("special tokens stand within the texts")
        fast = FastTokenizer(self._spec, self._max_tokens, ends).tokens

        def differ(texts: list[str]) -> Flags:
            return _different(self._whole(texts, fast), np.arange(len(texts)), self._by_library(texts))

        characters = CharacterProof(differ)
        if characters.doubtful([string.printable[:-2]]).any():
            raise FastTokenizerError("it treats printable characters of ASCII in another way")
        added = self._tokenizer.get_added_tokens_decoder().values()
        texts = hard_texts(self._max_tokens, (token.content for token in added))
        texts += [self._prompt + text for text in texts] if self._prompt else []
        if (wrong := differ(texts) & ~characters.doubtful(texts)).any():
            raise FastTokenizerError(f"{wrong.sum()} of {len(texts)} probe texts have other tokens")
        return _Proven(fast, characters)


def _different(tokens: Tokens, rows: Positions, wanted: Tokens) -> Flags:
    """Bool [n], which of some texts have other tokens or counts than is ``wanted``, in order."""
    different: Flags = (tokens.lengths[rows] != wanted.lengths) | (tokens.n_tokens[rows] != wanted.n_tokens)
    alike = np.flatnonzero(~different)
    (ids, types), (right, kinds) = tokens.packed(rows[alike]), wanted.packed(alike)
    wrong = ids != right
    if types is not None and kinds is not None:
        wrong |= types != kinds
    different[np.repeat(alike, wanted.lengths[alike])[wrong]] = True
    return different


class _Trust:
    """Whether the fast tokenizer is used for one tokenizer definition. Thread-safe.

    A difference is remembered in the cache folder, which other encoders of this machine look at before each block.

    Attributes:
        verdict: what to say of tokens by the library.
    """

    def __init__(self, definition: str) -> None:
        self._lock = threading.Lock()
        self._fast: _Proven | None = None
        self._chars = self._texts = 0
        self.verdict = TokensBy.LIBRARY
        self._open = is_installed()
        self._definition = definition
        self._kept: Remembered | None = None

    def fast(self, chars: int, proven: Callable[[], _Proven]) -> _Proven | None:
        """Returns the fast tokenizer for a block of so many characters; None if the library is to tokenize it."""
        if not self._open:
            return None
        with self._lock:
            self._chars += chars
            if self._chars < PAYS_FROM_CHARS or not self._open:
                return None
            if self._fast is None:
                self._load(proven)
            elif (reason := self._distrusted()) is not None:
                self._drop(TokensBy.CAUGHT, reason)
            return self._fast

    def share(self, texts: int) -> float:
        """Returns the share of a block's texts to compare, and counts them as seen."""
        with self._lock:
            first, self._texts = self._texts < FIRST_TEXTS, self._texts + texts
        return FIRST_SHARE if first else LATER_SHARE

    def catch(self, reason: str) -> None:
        """Ends the use of the fast tokenizer, here and wherever this machine uses it for the same definition."""
        with self._lock:
            try:
                self._facts().save({"differs": reason})
            except OSError as error:
                _log.info("what the fast tokenizer got wrong is not kept: %s", error)
            self._drop(TokensBy.CAUGHT, self._distrusted() or reason)

    def _load(self, proven: Callable[[], _Proven]) -> None:
        if (reason := self._distrusted()) is not None:
            self._drop(TokensBy.UNPROVEN, reason)
            return
        try:
            self._fast = proven()
        except FastTokenizerError as error:
            self._drop(TokensBy.UNPROVEN, str(error))

    def _drop(self, verdict: TokensBy, reason: str) -> None:
        if self._open:
            _log.warning("the tokenizers library tokenizes from here on, not tokie: %s", reason)
        self._open, self._fast, self.verdict = False, None, verdict

    def _facts(self) -> Remembered:
        if self._kept is None:
            conditions = {
                "definition": digest_of(self._definition),
                "with": versions_of(("tokie", "tokenizers")),
                "code": code_of(Path(__file__).parent),
            }
            self._kept = Remembered("tokenizers", conditions)
        return self._kept

    def _distrusted(self) -> str | None:
        found = self._facts().read()
        return None if found is None else f"{found.get('differs')}, {self._remedy()}"

    def _remedy(self) -> str:
        """How to have the fast tokenizer tried again."""
        return f"as {self._facts().place} remembers: delete it, or upgrade tokie or vecfill, to try again"
