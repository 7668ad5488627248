"""How long our writing transactions may take: never longer than what the role or the database allows."""

from __future__ import annotations

from typing import Any

import psycopg

STATEMENT_TIMEOUT_MS = 60_000
"""Longest time of one of our statements that hold row locks: a batch aims at half a second."""

CHECK_CLIENT = "client_connection_check_interval"
"""How often a server at work looks whether its client is still there (``kill -9`` leaves locks otherwise)."""


def write_limits(cursor: Any) -> dict[str, str]:
    """Settings of our writing transactions; never looser than what the role or the database sets."""
    ours = {
        "lock_timeout": 5_000,
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": 60_000,
    }
    rows = cursor.execute(
        "SELECT name, setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = ANY ($1)",
        ([*ours, CHECK_CLIENT],),
    ).fetchall()
    theirs = dict(rows)
    settings = {name: str(min(value, theirs[name]) if theirs.get(name) else value) for name, value in ours.items()}
    settings["jit"] = "off"  # a batch is over sooner than it compiles, and the planner overrates how many rows it has
    if CHECK_CLIENT in theirs and _may_check_clients(cursor):
        settings[CHECK_CLIENT] = "2s"
    return settings


def _may_check_clients(cursor: Any) -> bool:
    """Whether the server's platform can notice a client that is gone."""
    try:
        with cursor.connection.transaction():
            cursor.execute("SELECT pg_catalog.set_config($1, '2s', true)", (CHECK_CLIENT,))
    except psycopg.errors.InvalidParameterValue:
        return False
    return True
