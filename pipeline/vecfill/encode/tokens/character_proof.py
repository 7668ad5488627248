"""Which characters two tokenizers treat alike: each is compared when a text first contains it.

Tokenizers carry tables of Unicode, of different years. For BERT's, tokie and the tokenizers library differ in 181,000
code points: the newest scripts, those that are not assigned yet, and U+007F. Such texts are for the library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vecfill.encode.encoding import Flags
from vecfill.encode.tokens.shortening import parts_of

_UNKNOWN, _SAME, _DIFFERS = 0, 1, 2
_ASCII = 128

Differ = Callable[[list[str]], Flags]
"""Returns for each text whether the two tokenizers differ in it."""


class CharacterProof:
    """The characters met so far. Thread-safe."""

    def __init__(self, differ: Differ) -> None:
        """Compares the characters of ASCII, so that later such texts need no look."""
        self._differ, self._lock = differ, threading.Lock()
        self._known = np.zeros(0x110000, np.uint8)
        self._meet(np.arange(_ASCII, dtype=np.uint32))
        self._ascii = [chr(one) for one in np.flatnonzero(self._known[:_ASCII] == _DIFFERS)]

    def doubtful(self, texts: list[str]) -> Flags:
        """Returns bool [n], whether a text contains a character in which the tokenizers differ.

        Raises:
            UnicodeEncodeError: a text contains half of a surrogate pair.
        """
        return np.concatenate([self._doubtful(texts[part]) for part in parts_of(texts)])

    def _doubtful(self, texts: list[str]) -> Flags:
        found = np.zeros(len(texts), np.bool_)
        looked = [
            row for row, text in enumerate(texts) if not text.isascii() or any(one in text for one in self._ascii)
        ]
        if not looked:
            return found
        characters = np.frombuffer("".join(texts[row] for row in looked).encode("utf-32-le"), np.uint32)
        states = self._known[characters]
        if (new := states == _UNKNOWN).any():
            self._meet(np.unique(characters[new]))
            states = self._known[characters]
        if (wrong := states == _DIFFERS).any():
            owners = np.repeat(looked, [len(texts[row]) for row in looked])
            found[owners[wrong]] = True
        return found

    def _meet(self, characters: npt.NDArray[np.uint32]) -> None:
        """Compares characters between others, by blanks, and alone."""
        with self._lock:
            names = [chr(one) for one in characters]
            among, alone = ([form.format(one) for one in names] for form in ("a{0}b {0} {0}{0}", "{0}"))
            wrong = self._differ(among) | self._differ(alone)
            self._known[characters] = np.where(wrong, _DIFFERS, _SAME)
