"""Output never ends a command: not a reader that closes the pipe early, not a character that the encoding lacks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class _Patient:
    """A text stream that drops its output after a ``BrokenPipeError`` instead of raising it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        """Redirects the descriptor to /dev/null, since Python flushes once more at exit."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def output_never_fails() -> Iterator[None]:
    """Prevents errors on stdout and stderr after their reader has closed them, and of characters that they cannot show.

    Such a character comes out as ``?`` on stdout and as an escape on stderr.
    """
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _Patient(stream) for stream in kept)
    try:
        with _replacing(sys.stdout, "replace"), _replacing(sys.stderr, "backslashreplace"):
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
        sys.stdout, sys.stderr = kept


@contextmanager
def _replacing(stream: Any, errors: str) -> Iterator[None]:
    if not hasattr(stream, "reconfigure"):  # closed by the parent process, or not a stream of text over bytes
        yield
        return
    before = stream.errors
    stream.reconfigure(errors=errors)
    try:
        yield
    finally:
        if not stream.closed:
            stream.reconfigure(errors=before)
