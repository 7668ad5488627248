"""A connection string as people have it: libpq's own forms, and the URLs of Prisma, SQLAlchemy and JDBC."""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg import conninfo, pq

from vecfill.errors import ConfigError

log = logging.getLogger(__name__)

_OF_OTHERS = {
    "pgbouncer": "vecfill prepares no statements, so a pooler needs no setting",
    "connection_limit": "see --max-connections",
    "pool_timeout": "vecfill has no pool",
    "pool_size": "see --max-connections",
    "statement_cache_size": "vecfill prepares no statements",
    "prepared_statement_cache_size": "vecfill prepares no statements",
    "socket_timeout": "see connect_timeout and the role's statement_timeout",
    "schema": "write the schema before the table: --table schema.table",
    "currentSchema": "write the schema before the table: --table schema.table",
}
"""Parameters of Prisma, SQLAlchemy's drivers and JDBC that libpq does not know, and what takes their place."""

_KNOWN = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}


def parse(given: str) -> dict[str, Any]:
    """Returns libpq's parameters. Messages never show a value, as it may hold a password.

    Raises:
        ConfigError: the string has no form that is known, or a part of it is wrong.
    """
    text = _unwrapped(given)
    try:
        found: dict[str, Any] = conninfo.conninfo_to_dict(_for_libpq(text) if _is_url(text) else text)
    except psycopg.ProgrammingError:
        raise ConfigError(
            "the given database is not a connection string: write postgresql://user@host:5432/name or 'host=… dbname=…'"
        ) from None
    if any("@" in str(found.get(part, "")) for part in ("host", "dbname")):
        raise _unescaped()
    return found


def _unwrapped(given: str) -> str:
    """Drops what copying from a file leaves: a byte-order mark, blanks, a carriage return, quotes around the whole."""
    text = given.removeprefix("\ufeff").strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "'\"`":
        text = text[1:-1].strip()
    return text.removeprefix("jdbc:")


def _is_url(text: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def _for_libpq(url: str) -> str:
    """The URL without the driver's name and without parameters that libpq does not know."""
    scheme, _, rest = url.partition("://")
    if scheme.lower().partition("+")[0] not in ("postgresql", "postgres"):
        raise ConfigError(f"the database URL begins with {scheme}://, not with postgresql://: vecfill needs PostgreSQL")
    place, _, query = rest.partition("?")
    kept = "&".join(pair for pair in query.split("&") if _is_known(pair))
    _check_percents(place, kept)
    return f"postgresql://{place}?{kept}" if kept else f"postgresql://{place}"


def _is_known(pair: str) -> bool:
    """Whether libpq knows the parameter; says what takes its place where another tool does."""
    name = unquote(pair.partition("=")[0])
    if name in _OF_OTHERS:
        log.info("ignoring %s of the database URL: %s", name, _OF_OTHERS[name])
        return False
    if name and name not in _KNOWN:
        if "@" in pair or "/" in pair:
            raise _unescaped()
        raise ConfigError(f"the database URL has the parameter {name}, which libpq does not know: remove it")
    return bool(name)


def _check_percents(place: str, query: str) -> None:
    login, _, rest = place.rpartition("@")
    user, _, password = login.partition(":")
    host, _, name = rest.partition("/")
    parts = {"user": user, "password": password, "host": host, "database name": name}
    parts |= {f"parameter {pair.partition('=')[0]}": pair for pair in query.split("&")}
    for part, text in parts.items():
        if re.search(r"%(?![0-9A-Fa-f]{2})", text):
            raise ConfigError(
                f"the {part} of the database URL has a % without two hexadecimal digits after it: write %25 for a %"
            )


def _unescaped() -> ConfigError:
    return ConfigError(
        "the given database URL has an unescaped @, / or ? in its password: write %40, %2F or %3F, or set the password "
        "with PGPASSWORD or ~/.pgpass"
    )
