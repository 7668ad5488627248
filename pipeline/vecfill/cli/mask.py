"""Hides passwords of the command line from process lists (``ps``, /proc, Ray's record of its driver)."""

from __future__ import annotations

import re
from pathlib import Path

_URL = rb"(?<=://)[^/?#\0]*?:([^\0]*?)@(?=[^@\0]*(?:\0|$))"
_PAIR = rb"password\s*=\s*('(?:[^'\\\0]|\\[^\0])*'?|[^\s&\0]+)"
_COMMAND = rb"--password-command(?:=|\0)([^\0]*)"
_SECRETS = [re.compile(pattern) for pattern in (_URL, _PAIR, _COMMAND)]


def masked(arguments: bytes) -> bytes:
    """Returns the command line (arguments end with NUL) with an ``x`` for each byte of a password."""
    shown = bytearray(arguments)
    for pattern in _SECRETS:
        for found in pattern.finditer(arguments):
            shown[found.start(1) : found.end(1)] = b"x" * (found.end(1) - found.start(1))
    return bytes(shown)


def mask_process() -> None:
    """Overwrites passwords in the memory where the kernel keeps this process's command line, readable by everybody.

    It lies at the top of the stack, between the addresses in fields 48 and 49 of /proc/self/stat. ``sys.argv`` is a
    copy and keeps its values. Without /proc, nothing happens.
    """
    try:
        given = Path("/proc/self/cmdline").read_bytes()
        start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    except (OSError, ValueError):
        return
    if start and end - start == len(given) and (shown := masked(given)) != given:
        import ctypes

        ctypes.memmove(start, shown, len(shown))
