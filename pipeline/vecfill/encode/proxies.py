"""Proxies that the environment names: checked before the hub's and the API's HTTP client, which end in a traceback."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec

from vecfill.errors import ConfigError

_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_PLAIN, _SOCKS = ("http", "https"), ("socks5", "socks5h")


def check_proxies(environ: Mapping[str, str] = os.environ) -> None:
    """Checks that the HTTP client can use the proxies of the environment. Shows no value: it may hold a password.

    The client opens all of them, also those that no request would go through.

    Raises:
        ConfigError: a proxy is of an unknown kind, or a SOCKS proxy without the package that speaks to it.
    """
    for name in (spelling for one in _VARIABLES for spelling in (one.lower(), one)):
        kind, mark, place = environ.get(name, "").strip().partition("://")
        if mark and kind.lower() in _SOCKS and find_spec("socksio") is None:
            raise ConfigError(
                f"{name} names a SOCKS proxy, which needs the package socksio: pip install socksio, or unset {name}"
            )
        if mark and (kind.lower() not in (*_PLAIN, *_SOCKS) or not place.strip("/")):
            raise ConfigError(
                f"{name} names no proxy that vecfill can use: write http://host:port or socks5://host:port, or unset it"
            )
