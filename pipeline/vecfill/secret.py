"""A secret by command: a server's password, an API's key. Those of clouds live for minutes: they are asked for anew."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from vecfill.errors import ConfigError, SecretError

TIMEOUT_S = 30.0
"""Seconds that a command may take: those of the clouds ask a server of theirs, which takes one or two."""

MAX_REASON = 200
"""Characters of what the command said on stderr that a message repeats."""


def secret_from_command(command: str, *, option: str, what: str) -> str:
    """Runs the command, split as a shell would but without one, and returns the first line of what it prints.

    No message shows the command's arguments or its output, as both may hold a secret.

    Args:
        command: the user's own.
        option: that gives the command, for messages.
        what: it prints, for messages: ``password``, ``key``.

    Raises:
        ConfigError: it is no command, or there is no such program.
        SecretError: it failed, took too long or printed nothing.
    """
    words = _split_command(command, option)
    name = f"{option}: {Path(words[0]).name}"
    try:
        done = subprocess.run(  # noqa: S603 -- it is the user's own
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except OSError as error:
        raise ConfigError(
            f"{name} cannot be run: {error.strerror}: check its path; it is run without a shell (sh -c '…' is one)"
        ) from None
    except subprocess.TimeoutExpired:
        raise SecretError(f"{name} took over {TIMEOUT_S:g} s: it must print the {what} within that") from None
    if done.returncode:
        raise SecretError(f"{name} ended with exit code {done.returncode}{_reason(done.stderr)}: try it by hand")
    return _first_line(name, what, done.stdout)


def _split_command(command: str, option: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{option} does not split into words: {error}: quote it as for a shell") from None
    if not words or "=" in words[0]:
        raise ConfigError(f"{option} names no program: write its path and arguments; there is no shell")
    return words


def _first_line(name: str, what: str, output: bytes) -> str:
    try:
        line = output.decode().splitlines()[:1]
    except UnicodeDecodeError:
        raise SecretError(f"{name} printed what is not UTF-8: it must print the {what} and nothing else") from None
    if not line or not line[0]:
        raise SecretError(f"{name} printed no {what}: it must be the first line on stdout")
    return line[0]


def _reason(stderr: bytes) -> str:
    """The last line, which is where tools say what is wrong."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    return f", saying: {lines[-1].strip()[:MAX_REASON]}" if lines else ""
