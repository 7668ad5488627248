"""What the ledger knows of a target and the user need not repeat: its text and its key."""

from __future__ import annotations

from dataclasses import replace

from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.ledger.registry import Tracked, find_target, find_tracked, ledger_version
from vecfill.postgres.database import Connection
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction


def find_completed(connection: Connection, target: Target, relation: Relation) -> tuple[Target, Tracked | None]:
    """Looks a target up in the ledger, as ``find_tracked`` does; without a text it gets the text and key of ``track``.

    Raises:
        ConfigError: as ``find_tracked``; or the text or key of ``track`` no longer fits the table.
    """
    if target.text is None and target.text_sql is None:
        with transaction(connection, read_only=True) as cursor:
            exists = ledger_version(cursor, target.state_schema, relation) is not None
            row = find_target(cursor, relation, target) if exists else None
        if row:
            target = replace(target, text=row.text, text_sql=row.text_sql, key=tuple(row.key))
            relation = inspect(connection, target)
    return target, find_tracked(connection, relation, target)


def need_tracked(connection: Connection, target: Target, why: str) -> Tracked:
    """Finds a tracked target by its table, column and ``where`` alone.

    Args:
        connection: to the target's database.
        target: the user's settings.
        why: what needs a tracked target, for the message.

    Raises:
        ConfigError: it is not tracked; or as ``find_completed``.
    """
    bare = replace(target, text=None, text_sql=None, set=(), key=())
    relation = inspect(connection, bare, text_needed=False, key_needed=False)
    _, tracked = find_completed(connection, bare, relation)
    if tracked is None:
        raise ConfigError(
            f"{why} needs a tracked target, and {relation.table.label}.{relation.table.vector.name} is not tracked: "
            "run `vecfill track` first"
        )
    return tracked
