"""Errors that the user's SQL causes on a row, while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from vecfill.errors import ConfigError, Fault, classify
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation


@contextmanager
def explain_user_sql_errors(relation: Relation) -> Iterator[None]:
    """Attributes errors such as division by zero, or an attempt to write, to the user's SQL: ours cannot cause them.

    Raises:
        ConfigError: with the server's message.
    """
    try:
        yield
    except psycopg.Error as error:
        if classify(error.sqlstate) is not Fault.ROW and not isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            raise
        raise ConfigError(
            f"--where or --text fails on a row of {relation.table.label}: {server_message(error)}: "
            "change it so that it works on every row"
        ) from error
