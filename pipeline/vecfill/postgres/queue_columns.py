"""Finds the columns of a queue table that the settings name, and checks their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from vecfill.config.queue_options import QueueOptions
from vecfill.errors import ConfigError
from vecfill.postgres.catalogue import Column, type_name
from vecfill.postgres.driver_errors import is_transient, server_message
from vecfill.postgres.queue_table import ENTRY, EntryKey, Stamp
from vecfill.postgres.relation import Relation

STAMPS = {"timestamptz", "timestamp"}

_ZONE = "SELECT s.reset_val FROM pg_catalog.pg_settings AS s WHERE s.name OPERATOR(pg_catalog.=) 'TimeZone'"

_TYPE = """
SELECT n.nspname, t.typname, t.typtype, (SELECT b.typname FROM pg_catalog.pg_type AS b WHERE b.oid = t.typbasetype)
FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
WHERE t.oid = $1::pg_catalog.oid
"""


_NAMES: LiteralString = """ARRAY(
    SELECT a.attname::pg_catalog.text FROM pg_catalog.unnest(c.{keys}) WITH ORDINALITY AS k (number, n)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.{table} AND a.attnum = k.number ORDER BY k.n)"""

_REFERENCES = """
SELECT {own}, {theirs} FROM pg_catalog.pg_constraint AS c
WHERE c.contype = 'f' AND c.conrelid = $1::pg_catalog.oid AND c.confrelid = $2::pg_catalog.oid
""".format(own=_NAMES.format(keys="conkey", table="conrelid"), theirs=_NAMES.format(keys="confkey", table="confrelid"))

_ELSEWHERE = """
SELECT {own}, c.confrelid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_constraint AS c
WHERE c.contype = 'f' AND c.conparentid = 0 AND c.conrelid = $1::pg_catalog.oid
  AND c.confrelid <> ALL ($2::pg_catalog.oid[])
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS t WHERE t.contype = 'f'
    AND t.conrelid = $3::pg_catalog.oid AND t.confrelid = c.confrelid)
""".format(own=_NAMES.format(keys="conkey", table="conrelid"))
"""Foreign keys to another table than the target, unless the target has one to it too, such as jobs and their texts."""

_OWN = """
SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND (a.attidentity <> '' OR a.atthasdef)
"""


class QueueColumns:
    """Looks up the columns that the settings name."""

    def __init__(self, cursor: Any, options: QueueOptions, oid: int, label: str, columns: Mapping[str, Column]) -> None:
        self.cursor, self.options, self.oid, self.label, self.columns = cursor, options, oid, label, columns

    def column(self, setting: str, name: str) -> Column:
        """Returns a column.

        Raises:
            ConfigError: there is none.
        """
        if name not in self.columns:
            raise ConfigError(
                f"--queue-{setting} {name}: the queue table {self.label} has no such column; its columns are "
                f"{', '.join(sorted(self.columns))}"
            )
        return self.columns[name]

    def optional(self, setting: str, name: str | None) -> str | None:
        """Returns the name of a column, if one is set, after a look that it is there."""
        return None if name is None else self.column(setting, name).name

    def type_of(self, column: Column) -> tuple[sql.Composable, str]:
        """Returns the type of a column as SQL, and the name of its base type."""
        schema, name, kind, base = self.cursor.execute(_TYPE, (column.oid,)).fetchone()
        return sql.Identifier(schema, name), base if kind == "d" else name

    def value(self, column: Column, setting: str, text: str) -> sql.Composable:
        """Returns a value of a column.

        Raises:
            ConfigError: its type cannot hold it.
        """
        value = sql.SQL("{}::{}").format(sql.Literal(text), self.type_of(column)[0])
        try:
            with self.cursor.connection.transaction():
                self.cursor.execute(sql.SQL("SELECT {}").format(value), ())
        except psycopg.Error as error:
            if is_transient(error):
                raise
            raise ConfigError(
                f"--queue-{setting} {text!r} does not fit {column.name} of the queue table {self.label}, of type "
                f"{type_name(self.cursor, column)}: {server_message(error)}: write the value that the table uses"
            ) from error
        return value

    def only(self) -> tuple[tuple[str, sql.Composable], ...]:
        """Returns the columns and values of the target's own entries.

        Raises:
            ConfigError: a setting is no ``column=value``, or the value does not fit.
        """
        found = []
        for given in self.options.only:
            name, equals, text = given.partition("=")
            if not equals:
                raise ConfigError(f"--queue-only {given!r}: write NAME=VALUE, such as kind=job")
            column = self.column("only", name.strip())
            found.append((column.name, self.value(column, "only", text.strip())))
        return tuple(found)

    def stamp(self, setting: str, name: str | None) -> Stamp | None:
        """Returns a timestamp column.

        The time of a column without time zone is that of the server's time zone, as ``now()`` of a session gives it.

        Raises:
            ConfigError: it is none.
        """
        if name is None:
            return None
        column = self.column(setting, name)
        kind = self.type_of(column)[1]
        if kind not in STAMPS:
            raise ConfigError(
                f"--queue-{setting} {name} of {self.label} has type {type_name(self.cursor, column)}: it must be a "
                "timestamp, with or without time zone"
            )
        now: sql.Composable = sql.SQL("pg_catalog.now()")
        if kind == "timestamp":
            zone = self.cursor.execute(_ZONE, ()).fetchone()[0]
            now = sql.SQL("pg_catalog.timezone({}, pg_catalog.now())").format(sql.Literal(zone))
        return Stamp(name=name, now=now, exact=column.typmod in (-1, 6), nullable=not column.not_null)

    def key(self, relation: Relation) -> tuple[EntryKey, ...]:
        """Returns the key columns: those that the settings name, else those of a foreign key, else of the same names.

        Raises:
            ConfigError: there are none, or not as many as the target's.
        """
        targets = [part.name for part in relation.table.key]
        names = self.options.key or self._references(relation, targets) or self._same_names(relation, targets)
        if len(names) != len(targets):
            raise ConfigError(
                f"--queue-key names {len(names)} columns, and the key of {relation.table.label} has {len(targets)} "
                f"({', '.join(targets)}): name a column of {self.label} for each"
            )
        self._check_references(relation, names)
        return tuple(
            EntryKey(name=self.column("key", name).name, target=part.name, equals=part.equals)
            for name, part in zip(names, relation.table.key, strict=True)
        )

    def _check_references(self, relation: Relation, names: Sequence[str]) -> None:
        """Entries of another table's rows would all count as done: the target has no such row.

        Raises:
            ConfigError: the columns reference another table.
        """
        table = relation.table
        for own, other in self.cursor.execute(_ELSEWHERE, (self.oid, [table.oid, *table.tree], table.oid)).fetchall():
            if set(own) == set(names):
                raise ConfigError(
                    f"--queue-key {', '.join(own)}: these columns of {self.label} reference {other}, so that its "
                    f"entries do not name rows of {table.label}: run with --table {other}, or name other columns"
                )

    def _references(self, relation: Relation, targets: Sequence[str]) -> tuple[str, ...]:
        """Returns the columns of the foreign key that references the target's key; empty without one, or with two."""
        found = self.cursor.execute(_REFERENCES, (self.oid, relation.table.oid)).fetchall()
        named = [dict(zip(theirs, own, strict=True)) for own, theirs in found if set(theirs) == set(targets)]
        return tuple(named[0][name] for name in targets) if len(named) == 1 else ()

    def _same_names(self, relation: Relation, targets: Sequence[str]) -> tuple[str, ...]:
        """Returns the target's own names, unless the queue table fills such a column by itself: it numbers its entries.

        Raises:
            ConfigError: it has no such columns, or fills them by itself.
        """
        own = {name for (name,) in self.cursor.execute(_OWN, (self.oid,)).fetchall()}
        for name in targets:
            if name not in self.columns or name in own:
                why = "numbers its entries by" if name in own else "has no column"
                raise ConfigError(
                    f"the queue table {self.label} {why} {name}, the name of the key of {relation.table.label}: name "
                    f"the column that holds the key by --queue-key: {', '.join(sorted(self.columns))}"
                )
        return tuple(targets)

    def order(self) -> tuple[sql.Composable, ...]:
        """Returns what sorts the entries.

        Raises:
            ConfigError: it is no column, or more than that.
        """
        return tuple(self._sorted(given) for given in self.options.order)

    def _sorted(self, given: str) -> sql.Composable:
        name, _, direction = given.strip().rpartition(" ")
        if direction.upper() not in ("ASC", "DESC"):
            name, direction = given.strip(), "ASC"
        column = sql.Identifier(ENTRY, self.column("order", name.strip()).name)
        return sql.SQL("{} {}").format(column, sql.SQL("DESC NULLS LAST" if direction.upper() == "DESC" else "ASC"))
