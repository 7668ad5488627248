"""In which format to ask an API for vectors: base64, a quarter of the bytes, or float, which every server knows."""

from __future__ import annotations

from typing import Literal

Format = Literal["base64", "float"]

BASE64_TRIALS = 3
"""Times that base64 is tried again after a request that failed in both formats, before float is kept."""


class VectorFormat:
    """Judges by behaviour: a server that gives a request no vectors as base64, but does as float, needs float.

    Attributes:
        current: format for the next request.
    """

    current: Format

    def __init__(self, wanted: Literal["auto", "base64", "float"]) -> None:
        self.current = "base64" if wanted == "auto" else wanted
        self._decided = wanted != "auto"
        self._trials = BASE64_TRIALS

    def rejected(self, asked: Format) -> bool:
        """Records a request without vectors; returns whether to send it again as float."""
        if self._decided or asked == "float":
            return False
        self.current = "float"
        return True

    def accepted(self, asked: Format, *, was_rejected: bool) -> None:
        """Records a request with vectors.

        Args:
            asked: its format.
            was_rejected: the same request gave no vectors as base64.
        """
        if self._decided:
            return
        self._trials -= not was_rejected and asked == "float"
        self._decided = was_rejected or asked == "base64" or self._trials == 0
        self.current = "float" if was_rejected or self._trials == 0 else "base64"
