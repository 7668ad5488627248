"""Output never ends a command: not a reader that closes the pipe early, not a character that the encoding lacks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vecfill.errors import VecfillError


class _Patient:
    """A text stream that drops its output after an error.

    It raises none if its reader has gone, nor for stderr, and a ``VecfillError`` once if a result is lost: a full disk.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if isinstance(text, str) and not text:
            return 0  # click's test of what the stream takes; it would hide an error
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Redirects the descriptor to /dev/null, since Python flushes once more at exit."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if self._stream.name == "<stdout>" and not isinstance(error, BrokenPipeError):
            raise VecfillError(
                f"stdout cannot be written: {error.strerror}: the result is lost, and what was committed stays"
            ) from error


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
