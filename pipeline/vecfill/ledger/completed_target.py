"""What the ledger knows of a target and the user need not repeat: its text and its key."""

from __future__ import annotations

from dataclasses import replace

from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.ledger.registry import Tracked, find_target, find_tracked, has_schema, ledger_version
from vecfill.postgres.database import Connection
from vecfill.postgres.introspect import inspect
from vecfill.postgres.session import transaction


def completed(connection: Connection, target: Target) -> Target:
    """Returns a tracked target with the text and key of ``track``, if it names no text; any other target as it is.

    Raises:
        ConfigError: no such table or column; this role may not read the ledger; the ledger is of a newer version.
    """
    if target.text is not None or target.text_sql is not None:
        return target
    with transaction(connection, read_only=True) as cursor:
        if not has_schema(cursor, target.state_schema):
            return target
    relation = inspect(connection, target, text_needed=False, key_needed=False)
    with transaction(connection, read_only=True) as cursor:
        exists = ledger_version(cursor, target.state_schema, relation) is not None
        row = find_target(cursor, relation, target) if exists else None
    return replace(target, text=row.text, text_sql=row.text_sql, key=tuple(row.key)) if row else target


def need_tracked(connection: Connection, target: Target, why: str) -> Tracked:
    """Finds a tracked target by its table, column and ``where`` alone.

    Args:
        connection: to the target's database.
        target: the user's settings.
        why: what needs a tracked target, for the message.

    Raises:
        ConfigError: it is not tracked; or as ``completed``.
    """
    full = completed(connection, replace(target, text=None, text_sql=None, set=(), key=()))
    relation = inspect(connection, full, text_needed=False, key_needed=False)
    tracked = find_tracked(connection, relation, full)
    if tracked is None:
        raise ConfigError(
            f"{why} needs a tracked target, and {relation.table.label}.{relation.table.vector.name} is not tracked: "
            "run `vecfill track` first"
        )
    return tracked
