"""Passwords on the command line, hidden from whoever lists processes (``ps``, /proc, Ray's record of its driver)."""

from __future__ import annotations

import re
from pathlib import Path

_URL = rb"(?<=://)[^/?#\0]*?:([^\0]*?)@(?=[^@\0]*(?:\0|$))"
_PAIR = rb"password\s*=\s*('(?:[^'\\\0]|\\[^\0])*'?|[^\s&\0]+)"
_COMMAND = rb"--password-command(?:=|\0)([^\0]*)"
_SECRETS = [re.compile(pattern) for pattern in (_URL, _PAIR, _COMMAND)]


def masked(arguments: bytes) -> bytes:
    """The command line, NUL between arguments, of the same length with an ``x`` for each byte of a password."""
    shown = bytearray(arguments)
    for pattern in _SECRETS:
        for found in pattern.finditer(arguments):
            shown[found.start(1) : found.end(1)] = b"x" * (found.end(1) - found.start(1))
    return bytes(shown)


def mask_process() -> None:
    """Overwrites passwords in this process's own command line, where the kernel lets everybody read it.

    The bytes lie at the top of the stack, between the addresses that fields 48 and 49 of /proc/self/stat tell. Python's
    ``sys.argv`` is a copy, and keeps its values. Where there is no /proc nothing is done.
    """
    try:
        given = Path("/proc/self/cmdline").read_bytes()
        start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    except (OSError, ValueError):
        return
    if start and end - start == len(given) and (shown := masked(given)) != given:
        import ctypes

        ctypes.memmove(start, shown, len(shown))
