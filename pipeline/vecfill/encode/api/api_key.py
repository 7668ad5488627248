"""The API's key: from the environment or a command, never from a flag, and never in a message."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from vecfill.config.api import KEY_VARIABLES
from vecfill.errors import ConfigError
from vecfill.secret import secret_from_command

NO_KEY = "none"
"""Sent to a server of your own that needs no key: the client requires one."""

_COMMAND = "--api-key-command"


def from_environment(environ: Mapping[str, str] = os.environ) -> str | None:
    """Returns the key from the environment, if any."""
    return next((environ[name].strip() for name in KEY_VARIABLES if environ.get(name, "").strip()), None)


def from_command(command: str) -> str:
    """Returns the key that a command prints.

    Raises:
        ConfigError: it prints none, or something that is not a key; see ``secret_from_command``.
    """
    return checked(secret_from_command(command, option=_COMMAND, what="key").strip(), _COMMAND)


def checked(secret: str, source: str) -> str:
    """Returns the key if an HTTP header can hold it.

    Raises:
        ConfigError: it is empty, or has white space or characters outside ASCII.
    """
    if not secret:
        raise ConfigError(f"{source} gives an empty key: it must give the key alone")
    if not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise ConfigError(f"{source} gives white space or characters outside ASCII: it must give the key alone")
    return secret


class ApiKey:
    """The key in use, which the client asks for at each request."""

    def __init__(self, secret: str | None, command: str | None) -> None:
        self._command = command
        given = secret or (None if command else from_environment())
        self.secret = from_command(command) if command and not given else checked(given or NO_KEY, KEY_VARIABLES[0])
        self._renewing = asyncio.Lock()

    async def get(self) -> str:
        """Returns the key."""
        return self.secret

    async def renew(self, refused: str) -> bool:
        """Runs the command again, as some keys expire in minutes; returns whether that gives another key."""
        async with self._renewing:
            if self.secret == refused and self._command is not None:
                self.secret = await asyncio.to_thread(from_command, self._command)
        return self.secret != refused

    def hidden(self, text: str) -> str:
        """Returns the text without the key, which some servers quote."""
        return text.replace(self.secret, "***") if self.secret != NO_KEY else text
