"""The ledger tables of a tracked target, as its statements name them. Pure.

``ledger`` creates the tables and reads what they say of a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from psycopg import sql

from vecfill.blocks import key_names

NESTED_LOOPS = {"enable_hashjoin": "off", "enable_mergejoin": "off"}
"""Settings of each transaction on a queue: that of changes has no statistics, and the planner must not read the whole
target."""

UNKNOWN_MODEL = 0
"""Model of a ledger entry whose vector somebody else wrote; its text hash is empty, so that it counts as changed."""


class _Column(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def equals(self) -> sql.Composable: ...


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """What the statements of a run need to know of the ledger. Can be pickled.

    Attributes:
        schema: the schema of the ledger.
        id: the target's number in it.
        key: names of the target's key columns, and the operators that compare them.
        model: the number of this run's model; None if no model is involved.
        holder: this run's name in the lease; None if it holds none.
    """

    schema: str
    id: int
    key: tuple[tuple[str, sql.Composable], ...]
    model: int | None = None
    holder: str | None = None

    @classmethod
    def of(cls, schema: str, number: int, key: Sequence[_Column]) -> Tracking:
        """Returns the tables of target ``number`` with these key columns."""
        return cls(schema=schema, id=number, key=tuple((part.name, part.equals) for part in key))

    @property
    def targets(self) -> sql.Identifier:
        """The table of all tracked targets."""
        return sql.Identifier(self.schema, "target")

    @property
    def vectors(self) -> sql.Identifier:
        """The table of the vectors' origins: key, model, text hash."""
        return sql.Identifier(self.schema, f"vector_{self.id}")

    @property
    def changes(self) -> sql.Identifier:
        """The queue of changed rows: key, kind, time."""
        return sql.Identifier(self.schema, f"change_{self.id}")

    @property
    def failures(self) -> sql.Identifier:
        """The table of rows that failed."""
        return sql.Identifier(self.schema, f"failure_{self.id}")

    @property
    def key_names(self) -> list[str]:
        """The names of the key columns of each of these tables."""
        return key_names(len(self.key))

    @property
    def key_columns(self) -> sql.Composed:
        """The key columns of each of these tables, for a list of columns."""
        return sql.SQL(", ").join(map(sql.Identifier, self.key_names))

    def keys_of(self, alias: str, *, staged: bool = False) -> sql.Composed:
        """Returns the key columns of one of these tables, or of the staging table, under an alias."""
        return sql.SQL(", ").join(_key(alias, name, staged=staged) for name in self.key_names)

    def named_keys_of(self, alias: str) -> sql.Composed:
        """Returns the key columns of one of these tables, under the names of ``blocks``, which they have."""
        return self.keys_of(alias)

    def waits(self, *, listed: bool) -> sql.Composable:
        """Condition: an entry of the queue of changes names a row to read: each does."""
        del listed
        return sql.SQL("true")

    def target_keys(self, target: str) -> sql.Composed:
        """Returns the key columns of the target's row, by its alias, under their names in these tables."""
        return sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier(target, column), sql.Identifier(name))
            for (column, _), name in zip(self.key, self.key_names, strict=True)
        )

    def is_row(self, target: str, alias: str) -> sql.Composed:
        """Condition: a row of the target, by its alias, has the key of a row of one of these tables."""
        return sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(sql.Identifier(target, column), equals, _key(alias, name))
            for (column, equals), name in zip(self.key, self.key_names, strict=True)
        )

    def is_named_row(self, target: str, alias: str) -> sql.Composed:
        """Condition: a row of the target has the key that ``named_keys_of`` returned."""
        return self.is_row(target, alias)

    def same_key(self, one: str, other: str, *, staged: bool = False) -> sql.Composed:
        """Condition: rows of two of these tables have the same key; ``other`` may be the staging table."""
        return sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(_key(one, name), equals, _key(other, name, staged=staged))
            for (_, equals), name in zip(self.key, self.key_names, strict=True)
        )

    @property
    def held(self) -> sql.Composed:
        """Condition: this run still holds the lease; true without one."""
        if self.holder is None:
            return sql.SQL("true").format()
        return sql.SQL(
            "EXISTS (SELECT FROM {} AS vecfill_t WHERE vecfill_t.id OPERATOR(pg_catalog.=) {}\n"
            "      AND vecfill_t.holder OPERATOR(pg_catalog.=) {}::pg_catalog.text)"
        ).format(self.targets, sql.Literal(self.id), sql.Literal(self.holder))


def _key(alias: str, name: str, *, staged: bool = False) -> sql.Identifier:
    return sql.Identifier(alias, f"vecfill_{name}" if staged else name)
