"""The proxies of the environment, which the HTTP clients of the hub and of APIs use: checked before they are made."""

from __future__ import annotations

import os
from importlib.util import find_spec
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from vecfill.errors import ConfigError

_READ = ("http", "https", "all")
"""What the clients read: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, each in small letters too."""

_HTTP, _SOCKS = ("http", "https"), ("socks5", "socks5h")


def check_proxies() -> None:
    """Checks the form of every proxy variable: one that is wrong fails each request, whatever its address.

    Raises:
        ConfigError: a value is not the address of a proxy, or its kind needs a package that is not installed. The
            message leaves the value out, as it may hold a password.
    """
    given = getproxies_environment()
    for name in _READ:
        if value := given.get(name):
            _check(_variable(name), value)


def _check(variable: str, value: str) -> None:
    try:
        address = urlsplit(value if "://" in value else f"http://{value}")
        valid = bool(address.hostname) and (address.port is None or address.port > 0)
    except ValueError:  # brackets, a port that is no number or too large
        valid = False
    if not valid or address.scheme not in _HTTP + _SOCKS:
        raise ConfigError(
            f"{variable} is not the address of a proxy that vecfill can use: write http://HOST:PORT or "
            f"socks5://HOST:PORT, or unset {variable}"
        )
    if address.scheme in _SOCKS and find_spec("socksio") is None:
        raise ConfigError(
            f"{variable} names a SOCKS proxy, which needs the package socksio: pip install socksio, or use a proxy "
            f"with http://, or unset {variable}"
        )


def _variable(name: str) -> str:
    """The variable as it is written in the environment; urllib prefers small letters."""
    small = f"{name}_proxy"
    return small if os.environ.get(small) else small.upper()
