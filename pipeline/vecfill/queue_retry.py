"""``vecfill retry`` of a target with a queue table: puts entries back to pending, so that the next run takes them."""

from __future__ import annotations

from vecfill.config.retry import RetryOptions
from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.postgres import queue_put_back_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.introspect import inspect
from vecfill.postgres.queue_introspect import check_queue_table, with_queue_table
from vecfill.postgres.selection import selection_of
from vecfill.read.queue_upkeep import put_back


def retry_entries(connection: Connection, target: Target, which: RetryOptions) -> tuple[str, int]:
    """Puts entries back to pending: failed ones, or those that are done although their row has no vector.

    Args:
        connection: to the target's database.
        target: the table and its queue table.
        which: all failed entries, those of some keys, or the ``lost`` ones.

    Returns:
        The target as ``schema.table``, and the number of entries.

    Raises:
        ConfigError: no such queue table, or ``which`` names what it does not know.
    """
    if which.stage is not None:
        raise ConfigError(
            f"--stage {which.stage}: the queue table {target.queue.table} does not say where a row failed: give --key "
            "KEY, --all or --lost"
        )
    relation = with_queue_table(connection, inspect(connection, target, text_needed=False), target)
    check_queue_table(connection, relation)
    if which.lost and relation.queue_table.done is None:
        raise ConfigError(
            f"--lost: entries of {relation.queue_table.label} are deleted when they are done, so none is left to put "
            "back: pass --queue-rest to `vecfill run` instead"
        )
    if which.lost:
        condition = queue_put_back_sql.is_lost(selection_of(target), relation)
    else:
        condition = queue_put_back_sql.is_failed(relation.queue_table, which.keys)
    return relation.table.label, put_back(connection, relation, condition)
