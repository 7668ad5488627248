"""How long our writing transactions may take: never longer than what the role or the database allows."""

from __future__ import annotations

from typing import Any

import psycopg

STATEMENT_TIMEOUT_MS = 60_000
"""Longest time of one of our statements that hold row locks: a batch aims at half a second."""


def write_limits(cursor: Any) -> dict[str, str]:
    """Settings of our writing transactions; never looser than what the role or the database sets."""
    ours = {
        "lock_timeout": 5_000,
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": 60_000,
    }
    rows = cursor.execute(
        "SELECT name, setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = ANY ($1)",
        ([*ours, "client_connection_check_interval"],),
    ).fetchall()
    theirs = dict(rows)
    settings = {name: str(min(value, theirs[name]) if theirs.get(name) else value) for name, value in ours.items()}
    settings["jit"] = "off"  # a batch is over sooner than it compiles, and the planner overrates how many rows it has
    if "client_connection_check_interval" in theirs and _may_check_clients(cursor):
        settings["client_connection_check_interval"] = "2s"
    return settings


def _may_check_clients(cursor: Any) -> bool:
    """Whether the server's platform can notice a client that is gone (``kill -9`` leaves locks otherwise)."""
    try:
        with cursor.connection.transaction():
            cursor.execute("SELECT pg_catalog.set_config('client_connection_check_interval', '2s', true)", ())
    except psycopg.errors.InvalidParameterValue:
        return False
    return True
