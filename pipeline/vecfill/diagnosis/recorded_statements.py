"""The statements on the target that pg_stat_statements has recorded, if that extension is there."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from vecfill.diagnosis import queries
from vecfill.diagnosis.look import Examined

MOST = 500


def recorded_statements(look: Examined, pattern: str) -> list[Any]:
    """Returns text and calls of statements that name the table and match a pattern, the most frequent first.

    A statement that fails counts no call; it is there at all only with ``pg_stat_statements.track_planning``. The
    statements of other roles are hidden from a role that may not see them.
    """
    extension = look.ask(queries.HAS_STATEMENTS)
    if not extension:
        return []
    query = sql.SQL(queries.STATEMENTS).format(schema=sql.SQL(extension[0].schema))
    try:
        return look.ask(query, look.table, pattern, MOST)
    except psycopg.errors.ObjectNotInPrerequisiteState:  # not in shared_preload_libraries
        return []
