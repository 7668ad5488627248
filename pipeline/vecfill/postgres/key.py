"""The key: the columns of a unique index that identify a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.postgres.catalogue import Column, Table, type_name
from vecfill.postgres.indexes import FIRST_NORMAL_OID, Index
from vecfill.postgres.types import equality_of, type_of


@dataclass(frozen=True, kw_only=True)
class KeyColumn:
    """A column of the key.

    Attributes:
        name: as the catalogue spells it.
        send: the function that returns its binary field.
        equals: the equality operator of its index.
        oid: its type.
        array: the array type over that type; None for the rare type that has none.
    """

    name: str
    send: sql.Composable
    equals: sql.Composable
    oid: int
    array: sql.Composable | None


@dataclass(frozen=True, kw_only=True)
class UniqueIndex:
    """A unique index that identifies every row, with its columns and their operator classes."""

    columns: tuple[Column, ...]
    classes: tuple[int, ...]
    primary: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self.columns)


def usable_indexes(indexes: Sequence[Index], table: Table, columns: Mapping[str, Column]) -> list[UniqueIndex]:
    """Returns the table's valid, immediate, non-partial unique indexes over NOT NULL columns, primary key first."""
    not_null = {column.number: column for column in columns.values() if column.not_null}
    usable = [
        UniqueIndex(
            columns=tuple(not_null[number] for number in index.columns), classes=index.classes, primary=index.primary
        )
        for index in indexes
        if index.table == table.oid and index.identifies_rows and not_null.keys() >= set(index.columns)
    ]
    return sorted(usable, key=lambda index: not index.primary)


def key_of(
    cursor: Any,
    usable: Sequence[UniqueIndex],
    given: tuple[str, ...],
    table: str,
    columns: Mapping[str, Column],
    *,
    needed: bool,
) -> tuple[KeyColumn, ...]:
    """Returns the key columns; empty if there is no key and none is needed.

    Args:
        cursor: in a transaction.
        usable: from ``usable_indexes``.
        given: the columns of ``--key``, in any order; empty for the primary key.
        table: the name that the user gave, for messages.
        columns: the table's columns.
        needed: reject a table without a key.

    Raises:
        ConfigError: no such column, no such index, or a type without a binary form.
    """
    for name in given:
        if name not in columns:
            raise ConfigError(f"--key {name}: {table} has no such column; its columns are {', '.join(sorted(columns))}")
    wanted = (index for index in usable if (set(index.names) == set(given) if given else index.primary))
    chosen = next(wanted, None)
    if chosen is None and not needed and not given:
        return ()
    if chosen is None:
        raise ConfigError(_no_key(given, table, [index.names for index in usable]))
    return tuple(_key_column(cursor, *part) for part in zip(chosen.columns, chosen.classes, strict=True))


def _key_column(cursor: Any, column: Column, operator_class: int) -> KeyColumn:
    found = type_of(cursor, column.oid)
    if found.send is None:
        what = type_name(cursor, column)
        raise ConfigError(f"key column {column.name} has type {what}, which has no binary form: choose another --key")
    return KeyColumn(
        name=column.name,
        send=found.send,
        equals=_equality(cursor, column, operator_class),
        oid=column.oid,
        array=found.array,
    )


def _equality(cursor: Any, column: Column, operator_class: int) -> sql.Composable:
    """Returns the equality operator of the operator class: ``pg_catalog.=`` if type and class are built in.

    Looking it up costs a new connection 110 buffers and a round trip.
    """
    built_in = max(column.oid, operator_class) < FIRST_NORMAL_OID
    return sql.SQL("OPERATOR(pg_catalog.=)") if built_in else equality_of(cursor, operator_class)


def _no_key(given: tuple[str, ...], table: str, usable: Sequence[tuple[str, ...]]) -> str:
    what = f"{table} has no primary key, and --key is not given: its key"
    if given:
        what = f"--key {', '.join(given)} of {table}"
    choices = "; ".join(f"--key {' --key '.join(names)}" for names in usable)
    remedy = f"use {choices}" if usable else "add a primary key to the table"
    return (
        f"{what} must be the columns of a unique index that is valid, not partial, not deferrable and over NOT NULL "
        f"columns, so that it identifies every row: {remedy}"
    )
