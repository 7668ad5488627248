"""The rows that both sides embed: a table's, with a label column where one is named, or the built-in listings."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import psycopg
from psycopg import sql

from vecfill.backfill.checks import check_sql
from vecfill.config.target import Target
from vecfill.demo import listings
from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import transaction
from vecfill.postgres.target import inspect

BUILT_IN_LABEL = "department"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Texts with their labels.

    Attributes:
        name: what to call them.
        texts: n texts.
        labels: n labels, None where a row has none; None where no label column was named.
        label: the label column's name.
        built_in: whether these are the listings that come along.
    """

    name: str
    texts: tuple[str, ...]
    labels: tuple[str | None, ...] | None = None
    label: str | None = None
    built_in: bool = False

    def distinct(self) -> list[int]:
        """The first row of each distinct text: neighbours of equal texts would be decided by ties."""
        first: dict[str, int] = {}
        for row, text in enumerate(self.texts):
            first.setdefault(text, row)
        return list(first.values())


def from_listings(rows: int) -> Rows:
    """``rows`` of the listings, drawn evenly: title and company, with the department as label, which no text holds."""
    found = listings.load(rows)
    return Rows(
        name="listings",
        texts=tuple(f"{one.title} at {one.company}" for one in found),
        labels=tuple(one.department for one in found),
        label=BUILT_IN_LABEL,
        built_in=True,
    )


def from_table(database: Database, target: Target, rows: int, label: str | None) -> Rows:
    """The first ``rows`` rows, as the server gives them, that have a text, with a vector or without; only read.

    Raises:
        ConfigError: the target or the label column cannot be had, or no row has a text.
    """
    with closing(database.connect()) as connection:
        relation = inspect(connection, target)
        check_sql(connection, relation, writing=False)
        found = _fetch(connection, relation, rows, label)
    if not found:
        raise ConfigError(f"no row of {relation.table.label} has a text: name another table, or none for the listings")
    return Rows(
        name=relation.table.label,
        texts=tuple(text for text, _ in found),
        labels=tuple(one for _, one in found) if label else None,
        label=label,
    )


def _fetch(connection: Connection, relation: Relation, rows: int, label: str | None) -> list[tuple[str, str | None]]:
    query = _select(relation, label)
    try:
        with transaction(connection, read_only=True) as cursor:
            return cursor.execute(query, (rows,)).fetchall()
    except psycopg.errors.UndefinedColumn as error:
        raise ConfigError(
            f"--label {label}: {relation.table.label} has no such column: {server_message(error)}"
        ) from error


def _select(relation: Relation, label: str | None) -> sql.Composed:
    """Text and label of the rows that have a text and meet ``--where``; ``$1`` is the limit."""
    column = (
        sql.SQL("{}::pg_catalog.text").format(sql.Identifier(relation.table.alias, label)) if label else sql.SQL("NULL")
    )
    return sql.SQL(
        "SELECT {text}, {label}\nFROM {only}{name} AS {alias}\nWHERE NOT {blank} AND (\n{where}\n)\n"
        "LIMIT $1::pg_catalog.int8"
    ).format(
        text=relation.user_sql.text,
        label=column,
        only=sql.SQL("ONLY " if relation.table.plain else ""),
        name=relation.table.name,
        alias=sql.Identifier(relation.table.alias),
        blank=relation.user_sql.blank,
        where=relation.user_sql.where or sql.SQL("true"),
    )
