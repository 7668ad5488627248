"""A secret from a command: a database password or an API key.

Secrets of clouds expire within minutes, so each connect runs the command again.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from vecfill.errors import ConfigError, SecretError

TIMEOUT_S = 30.0
"""Time limit of a command in seconds; cloud tools ask a remote server, which takes one or two."""

MAX_REASON = 200
"""Most characters of the command's stderr in a message."""


def secret_from_command(command: str, *, option: str, what: str) -> str:
    """Runs a command without a shell, split by shell rules, and returns the first line that it prints.

    No message shows the command's arguments or output: both may contain a secret.

    Args:
        command: the user's command.
        option: the option that set it, for messages.
        what: what it prints, for messages: ``password``, ``key``.

    Raises:
        ConfigError: it is not a command, or the program does not exist.
        SecretError: it failed, took too long or printed nothing.
    """
    words = _split_command(command, option)
    name = f"{option}: {Path(words[0]).name}"
    try:
        done = subprocess.run(  # noqa: S603 -- the user's own command
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except OSError as error:
        raise ConfigError(
            f"{name} cannot be run: {error.strerror}: check its path; it runs without a shell (use sh -c '…' for one)"
        ) from None
    except subprocess.TimeoutExpired:
        raise SecretError(f"{name} took over {TIMEOUT_S:g} s: it must print the {what} within that time") from None
    if done.returncode:
        raise SecretError(f"{name} ended with exit code {done.returncode}{_reason(done.stderr)}: try it by hand")
    return _first_line(name, what, done.stdout)


def _split_command(command: str, option: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{option} does not split into words: {error}: quote it as for a shell") from None
    if not words or "=" in words[0]:
        raise ConfigError(f"{option} names no program: write its path, then its arguments; there is no shell")
    return words


def _first_line(name: str, what: str, output: bytes) -> str:
    try:
        line = output.decode().splitlines()[:1]
    except UnicodeDecodeError:
        raise SecretError(
            f"{name} printed output that is not UTF-8: it must print the {what} and nothing else"
        ) from None
    if not line or not line[0]:
        raise SecretError(f"{name} printed no {what}: it must be the first line on stdout")
    return line[0]


def _reason(stderr: bytes) -> str:
    """Returns the last line, in which tools usually report the error."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    return f" ({lines[-1].strip()[:MAX_REASON]})" if lines else ""
