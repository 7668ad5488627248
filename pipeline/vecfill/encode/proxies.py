"""Proxies that the environment names: checked before the hub's and the API's HTTP client, which end in a traceback."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit

from vecfill.errors import ConfigError

_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_PLAIN, _SOCKS = ("http", "https"), ("socks5", "socks5h")


def check_proxies(environ: Mapping[str, str] = os.environ) -> None:
    """Checks that the HTTP client can use the proxies of the environment. Shows no value: it may hold a password.

    The client opens all of them, also those that no request would go through.

    Raises:
        ConfigError: a value is no address of a known kind of proxy, or a SOCKS proxy lacks the package that speaks it.
    """
    for name in (spelling for one in _VARIABLES for spelling in (one.lower(), one)):
        value = environ.get(name, "").strip()
        if value.lower().partition("://")[0] in _SOCKS and find_spec("socksio") is None:
            raise ConfigError(
                f"{name} names a SOCKS proxy, which needs the package socksio: pip install socksio, or unset {name}"
            )
        if value and not _is_address(value):
            raise ConfigError(
                f"{name} names no proxy that vecfill can use: write http://host:port or socks5://host:port, or unset it"
            )


def _is_address(value: str) -> bool:
    """Whether the value has a known kind (http where it has none), a host, and no port or a possible one."""
    try:
        address = urlsplit(value if "://" in value else f"http://{value}")
        return address.scheme in _PLAIN + _SOCKS and bool(address.hostname) and address.port != 0
    except ValueError:  # an open bracket; a port that is no number or above 65535
        return False
