"""The API's key: from the environment or a command, never from a flag, and in no message."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from vecfill.errors import ConfigError
from vecfill.secret import secret_from_command

VARIABLES = ("VECFILL_API_KEY", "OPENAI_API_KEY")
"""Where a key is looked for, in this order."""

NO_KEY = "none"
"""What is sent to an endpoint of one's own that asks for no key: the client insists on one."""

_COMMAND = "--api-key-command"


def from_environment(environ: Mapping[str, str] = os.environ) -> str | None:
    """The key that the environment holds."""
    return next((environ[name].strip() for name in VARIABLES if environ.get(name, "").strip()), None)


def from_command(command: str) -> str:
    """The key that a command prints.

    Raises:
        ConfigError: it prints none, or what is no key; see ``secret_from_command``.
    """
    return checked(secret_from_command(command, option=_COMMAND, what="key").strip(), _COMMAND)


def checked(secret: str, source: str) -> str:
    """Returns the key where it can stand in an HTTP header.

    Raises:
        ConfigError: it is empty, or has white space or characters that are not ASCII.
    """
    if not secret:
        raise ConfigError(f"{source} gives an empty key: it must be the key alone")
    if not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise ConfigError(f"{source} gives white space or signs that are not ASCII: it must give the key alone")
    return secret


class Key:
    """The key in use, as the client asks for it at each request."""

    def __init__(self, secret: str | None, command: str | None) -> None:
        self._command = command
        given = secret or (None if command else from_environment())
        self.secret = from_command(command) if command and not given else checked(given or NO_KEY, VARIABLES[0])
        self._renewing = asyncio.Lock()

    async def get(self) -> str:
        """The key."""
        return self.secret

    async def renew(self, refused: str) -> bool:
        """Whether there is another key than the one refused; runs the command again, as some keys live for minutes."""
        async with self._renewing:
            if self.secret == refused and self._command is not None:
                self.secret = await asyncio.to_thread(from_command, self._command)
        return self.secret != refused

    def hidden(self, text: str) -> str:
        """The text without the key: some servers quote it."""
        return text.replace(self.secret, "***") if self.secret != NO_KEY else text
